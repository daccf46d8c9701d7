// Package table prints what commands list.
package table

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// Print writes one line per row: as JSON, or else what text writes below the
// heading, its tabs aligned as columns.
func Print[T any](out io.Writer, asJSON bool, heading string, rows []T, text func(w io.Writer, row T)) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		for _, r := range rows {
			if err := e.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	for _, r := range rows {
		text(w, r)
	}
	return w.Flush()
}
