package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/bowline-net/bowline"
)

// Error codes of the spec (1.1.0, "Error"), and ours from 100 on.
const (
	CodeVersion     = 1
	CodeUnknown     = 3 // the container does not exist; no DEL is needed
	CodeEnvironment = 4
	CodeIO          = 5
	CodeDecode      = 6
	CodeInvalid     = 7
	CodeNetns       = 8 // libcni: the namespace is the plugin's own
	CodeTryAgain    = 11
	CodeUnavailable = 50
	CodeDegraded    = 51
	CodeConflict    = 100
	CodeNoKernel    = 101
	CodeDiffers     = 102
	CodeDamaged     = 103
	CodeOther       = 110
)

// An Error is what a plugin prints when it fails.
type Error struct {
	CNIVersion string `json:"cniVersion,omitempty"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

func (e *Error) Error() string {
	if e.Details != "" {
		return e.Msg + ": " + e.Details
	}
	return e.Msg
}

// toError makes err printable, in one line. An error that has its code, such as
// one of a delegated plugin, keeps it.
func toError(err error) *Error {
	msg := strings.ReplaceAll(err.Error(), "\n", "; ") // of several that were joined
	var e *Error
	if errors.As(err, &e) {
		copied := *e
		copied.Msg, copied.Details = msg, ""
		return &copied
	}
	return &Error{Code: uint(bowline.Code(err)), Msg: msg}
}

// PrintError writes err as the spec wants it.
func PrintError(w io.Writer, err error, cniVersion string) error {
	e := toError(err)
	if e.CNIVersion = cniVersion; e.CNIVersion == "" {
		e.CNIVersion = newest
	}
	data, err := json.MarshalIndent(e, "", "    ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}
