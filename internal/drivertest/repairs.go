package drivertest

import (
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// repairs is the part of the suite for drivers that can tell what differs and
// make it right.
func repairs(t *testing.T, s Suite) {
	t.Run("repair", func(t *testing.T) {
		t.Parallel()
		host, sandbox := s.host(t), netnstest.New(t)
		ns, d := host.ns, host.d
		in, ok := d.(bowline.Inspector)
		if !ok {
			return
		}
		n, broken, whole := host.network(), endpoint(0, sandbox), endpoint(1, netnstest.New(t))
		if err := d.CreateNetwork(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		var made bowline.Attachment
		var err error
		for _, e := range []bowline.EndpointSpec{whole, broken} {
			if made, err = d.CreateEndpoint(t.Context(), n, e); err != nil {
				t.Fatal(err)
			}
		}
		places := []bowline.Place{{Network: n}, {Network: n, Endpoint: broken}, {Network: n, Endpoint: whole}}
		nothing(t, "Diff at first", in.Diff(t.Context(), places))
		before := Snapshot(t, ns)
		nothing(t, "Repair of nothing", in.Repair(t.Context(), places))
		if after := Snapshot(t, ns); after != before {
			t.Errorf("Repair of nothing changes\n%s\nto\n%s", before, after)
		}

		h, err := link.Open(sandbox) // the container's end takes the host's along
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if err := h.Delete(t.Context(), made.Link); err != nil {
			t.Fatal(err)
		}
		is := in.Diff(t.Context(), places)
		if len(is[1].Found) == 0 || len(is[2].Found) > 0 {
			t.Errorf("Diff does not see whose link is gone: %+v", is)
		}
		is = in.Repair(t.Context(), places)
		if is[1].Err != nil || len(is[1].Found) == 0 || is[1].Attachment.Link != made.Link || is[1].Attachment.MAC.String() != made.MAC.String() {
			t.Errorf("Repair: %+v, was attached as %+v", is[1], made)
		}
		if _, err := h.Get(t.Context(), made.Link); err != nil {
			t.Errorf("the link is not back: %v", err)
		}
		nothing(t, "Diff afterwards", in.Diff(t.Context(), places))
		for _, e := range []bowline.EndpointSpec{whole, broken} {
			if err := d.DeleteEndpoint(t.Context(), n, e); err != nil {
				t.Error(err)
			}
		}
		if err := d.DeleteNetwork(t.Context(), n); err != nil {
			t.Error(err)
		}
	})
}

func nothing(t *testing.T, what string, is []bowline.Inspection) {
	t.Helper()
	for _, i := range is {
		if i.Err != nil || len(i.Found) > 0 {
			t.Errorf("%s finds %v, %v", what, i.Found, i.Err)
		}
	}
}
