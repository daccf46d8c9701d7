package keeper

import (
	"context"
	"errors"
	"io/fs"
)

// A Row says what is on record of a lease.
type Row struct {
	Network   string   `json:"network"`
	Endpoint  string   `json:"endpoint"`
	Sandbox   string   `json:"sandbox,omitempty"`
	Addresses []string `json:"addresses"`
	Server    string   `json:"server,omitempty"` // of DHCPv4
	// Seconds from now until DHCPv4 renews and ends; nil: never.
	Renews *int64 `json:"renews,omitempty"`
	Ends   *int64 `json:"ends,omitempty"`
}

// List returns the leases on record. Damaged records come as errors, joined,
// beside the good ones.
func List(ctx context.Context) ([]Row, error) {
	s := Store()
	dirs, err := s.Dirs(ctx, "")
	if err != nil {
		return nil, err
	}
	var rows []Row
	var errs []error
	for _, d := range dirs {
		names, err := s.List(ctx, d)
		errs = append(errs, err)
		for _, n := range names {
			var r record
			if err := s.Get(ctx, n, &r); err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					errs = append(errs, err)
				}
				continue
			}
			rows = append(rows, r.row())
		}
	}
	return rows, errors.Join(errs...)
}

func (r *record) row() Row {
	row := Row{Network: r.Network, Endpoint: r.ID, Sandbox: r.Sandbox, Addresses: []string{}}
	l := r.lease()
	for _, p := range l.Prefixes() {
		row.Addresses = append(row.Addresses, p.String())
	}
	if r.Four != nil {
		row.Server = r.Four.Server.String()
		if r.Four.End > 0 {
			age := now().sub(r.Four.Since)
			renews, ends := int64((r.Four.T1 - age).Seconds()), int64((r.Four.End - age).Seconds())
			row.Renews, row.Ends = &renews, &ends
		}
	}
	return row
}
