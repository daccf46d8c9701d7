package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/table"
)

// A Stat is what passed one endpoint, as stats prints it.
type Stat struct {
	Driver    string `json:"driver"`
	Network   string `json:"network"`
	Container string `json:"container"` // the name that people call it, if the engine told, else its ID
	Interface string `json:"interface"`
	Engine    string `json:"engine"` // "cni" or "docker"
	ID        string `json:"id"`     // of the endpoint
	Link      string `json:"link"`   // host end
	bowline.Counts
}

// stats prints one line per endpoint whose links are there.
func (s Spec) stats(ctx context.Context, c *call) error {
	if _, err := c.parse(c.flags()); err != nil {
		return err
	}
	rows, err := s.count(ctx)
	return errors.Join(err, table.Print(c.stdout, c.json, "NETWORK\tCONTAINER\tINTERFACE\tENGINE\tRECEIVED\tPACKETS\tDROPS\tSENT\tPACKETS\tDROPS", rows, func(w io.Writer, r Stat) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", r.Network, r.Container, cmp.Or(r.Interface, "-"), r.Engine,
			r.ReceivedBytes, r.ReceivedPackets, r.ReceivedDrops, r.SentBytes, r.SentPackets, r.SentDrops)
	}))
}

func (s Spec) count(ctx context.Context) ([]Stat, error) {
	d, err := s.New(false)
	if err != nil {
		return nil, err
	}
	counter, ok := d.(bowline.Counter)
	if !ok {
		return nil, fmt.Errorf("%w: %s counts nothing", bowline.ErrUnavailable, s.Name)
	}
	records, damaged := s.mine(ctx)
	places := make([]bowline.Place, len(records))
	for i, r := range records {
		e, done := specOf(r)
		defer done()
		places[i] = bowline.Place{Network: r.Config(), Endpoint: e}
	}
	counts, err := counter.Count(ctx, places)
	if err != nil {
		return nil, errors.Join(damaged, err)
	}
	var rows []Stat
	for i, r := range records {
		if counts[i] == nil {
			continue
		}
		rows = append(rows, Stat{
			Driver: s.Name, Network: r.Network, Container: cmp.Or(r.Name, r.Container, r.ID), Interface: r.IfName,
			Engine: engine(r.Face), ID: r.ID, Link: r.Link, Counts: *counts[i],
		})
	}
	return rows, damaged
}

// engine is what people call the caller of a face.
func engine(face string) string {
	if face == "cnm" {
		return "docker"
	}
	return face
}
