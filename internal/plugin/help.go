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
	usage := func(args, about string) {
		if call := name + args; len(call) < 32 {
			fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("  %-32s%s", call, about), " "))
		} else { // on a line of its own
			fmt.Fprintf(&b, "  %s\n  %-32s%s\n", call, "", about)
		}
	}
	usage("", "run one CNI command, the one CNI_COMMAND names")
	for _, v := range verbs() {
		usage(strings.TrimRight(" "+v.name+" "+v.args, " "), v.about)
	}
	usage(" help, version", "")
	b.WriteString("\nFlags of serve:\n")
	printFlags(&b, s.serveFlags(new(serveOptions)), "-", " ")
	b.WriteString("\nNetwork options, as keys in a CNI file or after \"docker network create -o\":\n")
	printFlags(&b, s.Options(), "", "=")
	b.WriteString("\nEndpoint options, after \"docker run --network name=NET,driver-opt=\":\n")
	printFlags(&b, s.EndpointOptions(), "", "=")
	b.WriteString("\nExit status: 0 done, 1 failed, 2 wrong usage, 3 something differs, 4 no such command.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func printFlags(w io.Writer, fs *flag.FlagSet, prefix, sep string) {
	fs.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  %-32s%s\n", prefix+f.Name+sep+value, strings.TrimLeft(strings.TrimPrefix(usage, value), ": "))
	})
}
