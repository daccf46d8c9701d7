// Package cni speaks the Container Network Interface, versions 0.1.0 to 1.1.0,
// for any driver: it reads the command, calls the driver and IPAM, dresses the
// link inside the sandbox and prints the result.
//
// Errors go to standard output as JSON, which is where libcni looks (the spec
// says so for STATUS); logs go to standard error.
package cni

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/bowline-net/bowline"
)

// A Command is one call of a plugin: what the environment and standard input say.
type Command struct {
	Verb        string // CNI_COMMAND
	ContainerID string // CNI_CONTAINERID
	Netns       string // CNI_NETNS; may be empty for DEL
	IfName      string // CNI_IFNAME
	Args        string // CNI_ARGS, KEY=VALUE;...
	Path        string // CNI_PATH, a list of directories
	Stdin       []byte
}

// Read reads the command from the environment and the reader.
func Read(stdin io.Reader) (Command, error) {
	c := Command{
		Verb:        os.Getenv("CNI_COMMAND"),
		ContainerID: os.Getenv("CNI_CONTAINERID"),
		Netns:       os.Getenv("CNI_NETNS"),
		IfName:      os.Getenv("CNI_IFNAME"),
		Args:        os.Getenv("CNI_ARGS"),
		Path:        os.Getenv("CNI_PATH"),
	}
	if c.Verb == "VERSION" { // nothing else is needed, and podman sends nothing
		c.Stdin, _ = io.ReadAll(stdin)
		return c, nil
	}
	if err := c.check(); err != nil {
		return c, err
	}
	var err error
	if c.Stdin, err = io.ReadAll(stdin); err != nil {
		return c, &Error{Code: CodeIO, Msg: "read standard input: " + err.Error()}
	}
	return c, nil
}

// ID returns the endpoint's ID: a container may have several interfaces on one network.
func (c Command) ID() string { return c.ContainerID + "/" + c.IfName }

// check finds missing and malformed variables and names them all (spec 1.1.0,
// "Parameters").
func (c Command) check() error {
	needs := map[string][]string{
		"ADD":    {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"},
		"CHECK":  {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"},
		"DEL":    {"CNI_CONTAINERID", "CNI_IFNAME"},
		"GC":     {},
		"STATUS": {},
	}
	required, ok := needs[c.Verb]
	if !ok {
		return &Error{Code: CodeEnvironment, Msg: fmt.Sprintf("CNI_COMMAND=%q: want one of ADD, DEL, CHECK, GC, STATUS, VERSION", c.Verb)}
	}
	values := map[string]string{"CNI_CONTAINERID": c.ContainerID, "CNI_NETNS": c.Netns, "CNI_IFNAME": c.IfName}
	var missing []string
	for _, name := range required {
		if values[name] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return &Error{Code: CodeEnvironment, Msg: fmt.Sprintf("%s needs %s in the environment", c.Verb, strings.Join(missing, ", "))}
	}
	if len(required) == 0 {
		return nil
	}
	if !validID(c.ContainerID) {
		return &Error{Code: CodeEnvironment, Msg: fmt.Sprintf("CNI_CONTAINERID=%q: want letters, digits, dots, underscores and hyphens, a letter or digit first", c.ContainerID)}
	}
	if !validIfName(c.IfName) {
		return &Error{Code: CodeEnvironment, Msg: fmt.Sprintf("CNI_IFNAME=%q: want a name of 1 to 15 bytes without slash, colon, percent sign or space", c.IfName)}
	}
	return nil
}

// validID is [a-zA-Z0-9][a-zA-Z0-9_.\-]*, for container IDs and network names
// (spec 1.1.0).
func validID(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != ""
}

func validIfName(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/%: \t\n\v\f\r")
}

// arg returns the value of a key of CNI_ARGS. Keys that nobody knows are no
// error: engines send what they like.
func (c Command) arg(key string) string {
	for _, kv := range strings.Split(c.Args, ";") {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// name is what people call the container, if the engine told.
func (c Command) name() string {
	pod, space := c.arg("K8S_POD_NAME"), c.arg("K8S_POD_NAMESPACE")
	if pod != "" && space != "" {
		return space + "/" + pod
	}
	return pod
}

// invalid returns an error with CNI code 7.
func invalid(format string, args ...any) error {
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(format, args...))
}
