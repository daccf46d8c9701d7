// Package runtime keeps sandboxes and attaches them to networks.
//
// It is a client like any engine: it calls plugins through their CNI
// executables only, and so works with anybody's plugin. It writes a record
// before it acts and erases it after it has undone, so that a kill at any
// moment leaves nothing but what [Runtime.GC] clears.
package runtime

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// A Runtime is the networks, sandboxes and attachments of one host. Its methods
// may be called from several goroutines and processes at once.
type Runtime struct {
	cni         *libcni.CNIConfig
	path        []string
	networks    state.Store // survive a reboot
	sandboxes   state.Store // end with it
	attachments state.Store // CONTAINERID/IFNAME
	endpoints   state.Endpoints
	locks       locks
	netnsDir    string
	log         io.Writer
}

// New returns the runtime of this host. What plugins print on standard error
// goes to log, and so does a line for each damaged record. A nil log discards.
func New(log io.Writer) *Runtime {
	if log == nil {
		log = io.Discard
	}
	path := SearchPath()
	run := state.Run()
	return &Runtime{
		cni:         libcni.NewCNIConfigWithCacheDir(path, state.Run("runtime", "cache").Dir, &executor{log: log}),
		path:        path,
		networks:    state.Lib("runtime", "networks"),
		sandboxes:   state.Run("runtime", "sandboxes"),
		attachments: state.Run("runtime", "attachments"),
		endpoints:   state.OpenEndpoints(),
		locks:       locks{filepath.Join(run.Dir, "runtime", "locks")},
		netnsDir:    filepath.Join(run.Dir, "netns"),
		log:         log,
	}
}

// SearchPath returns the directories in which CNI executables are looked for,
// first match first: those of $BOWLINE_CNI_PATH, or of $CNI_PATH; the directory
// of this executable; /opt/cni/bin; /usr/lib/cni.
func SearchPath() []string {
	var dirs []string
	for _, env := range []string{"BOWLINE_CNI_PATH", "CNI_PATH"} {
		if list := os.Getenv(env); list != "" {
			dirs = append(dirs, filepath.SplitList(list)...)
			break
		}
	}
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	return append(dirs, "/opt/cni/bin", "/usr/lib/cni")
}

// maxName is the longest name of a network or sandbox, in bytes: both become
// parts of file names together with other parts.
const maxName = 64

// checkName returns an error unless name fits the CNI specification's names,
// for names become CNI network names and parts of container IDs.
func checkName(kind, name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if name == "" || len(name) > maxName || !strings.Contains(letters, name[:1]) ||
		strings.Trim(name, letters+"_.-") != "" {
		return bowline.Wrong(bowline.ErrInvalid, kind+` name "`+name+
			`": want 1 to 64 letters, digits, "_", "." or "-", the first a letter or digit`)
	}
	return nil
}
