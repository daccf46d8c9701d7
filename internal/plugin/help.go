package plugin

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// help prints one screen. The options come from the grammars that parse them.
func (s Spec) help(w io.Writer) error {
	name := "bowline-" + s.Name
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n\nUsage:\n", s.Name, s.Summary)
	for _, line := range [][2]string{
		{"", "run one CNI command, the one CNI_COMMAND names"},
		{" serve", "serve Docker as the network driver " + name},
		{" list", "print the endpoints that exist"},
		{" prune", "remove what no container uses any more"},
		{" help, version", ""},
	} {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("  %-32s%s", name+line[0], line[1]), " "))
	}
	b.WriteString("\nFlags of serve:\n")
	printFlags(&b, s.serveFlags(new(serveOptions)), "-", " ")
	b.WriteString("\nNetwork options, as keys in a CNI file or after \"docker network create -o\":\n")
	printFlags(&b, s.Options(), "", "=")
	b.WriteString("\nEndpoint options, after \"docker run --network name=NET,driver-opt=\":\n")
	printFlags(&b, s.EndpointOptions(), "", "=")
	b.WriteString("\nExit status: 0 done, 1 failed, 2 wrong usage.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func printFlags(w io.Writer, fs *flag.FlagSet, prefix, sep string) {
	fs.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  %-32s%s\n", prefix+f.Name+sep+value, strings.TrimLeft(strings.TrimPrefix(usage, value), ": "))
	})
}
