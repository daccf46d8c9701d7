package bowline

import "errors"

// The causes that callers tell apart. Errors wrap one of them; each face maps
// them to its protocol's codes.
var (
	// ErrInvalid: the configuration is wrong. CNI code 7.
	ErrInvalid = errors.New("invalid configuration")
	// ErrUnknown: the named thing does not exist. CNI code 3 for a container.
	ErrUnknown = errors.New("not found")
	// ErrUnavailable: cannot serve CreateEndpoint now. CNI code 50 of STATUS.
	ErrUnavailable = errors.New("not available")
	// ErrDegraded: as ErrUnavailable, and existing endpoints may be impaired.
	// CNI code 51 of STATUS.
	ErrDegraded = errors.New("existing endpoints impaired")
	// ErrExhausted: no address is free; try again later. CNI code 11.
	ErrExhausted = errors.New("no free address")
	// ErrConflict: something different exists under the same name. CNI code 100.
	ErrConflict = errors.New("conflict")
	// ErrNoKernel: the kernel was built without a feature. CNI code 101.
	ErrNoKernel = errors.New("not supported by this kernel")
	// ErrDiffers: a check found something not as it was left. CNI code 102.
	ErrDiffers = errors.New("differs")
	// ErrDamaged: a record was damaged and has been set aside. CNI code 103.
	ErrDamaged = errors.New("damaged record")
)

// Code returns the number by which CNI, and our metrics, know the most telling
// cause of err; 0 for nil, and 110 if it has none of them.
func Code(err error) int {
	if err == nil {
		return 0
	}
	for _, m := range [...]struct {
		cause error
		code  int
	}{
		{ErrInvalid, 7}, {ErrExhausted, 11}, {ErrDegraded, 51}, {ErrUnavailable, 50}, {ErrNoKernel, 101},
		{ErrDiffers, 102}, {ErrConflict, 100}, {ErrDamaged, 103}, {ErrUnknown, 3},
	} {
		if errors.Is(err, m.cause) {
			return m.code
		}
	}
	return 110
}

// Wrong returns an error that wraps cause and prints as text alone, for
// messages that name the place, the key, the value and what would be right.
func Wrong(cause error, text string) error { return &caused{text, cause} }

type caused struct {
	text  string
	cause error
}

func (e *caused) Error() string { return e.text }
func (e *caused) Unwrap() error { return e.cause }
