package endpoint

import "github.com/bowline-net/bowline"

// Differences are those of one place.
type Differences []bowline.Difference

// Gone adds a link of the host that is not there.
func (ds *Differences) Gone(name, kind string) {
	*ds = append(*ds, bowline.Difference{Place: "host", Key: "link " + name, Want: kind})
}

// Link adds what a link has, if that is not what is wanted.
func (ds *Differences) Link(name, key, have, want string) {
	if have != want {
		*ds = append(*ds, bowline.Difference{Place: "link " + name, Key: key, Have: have, Want: want})
	}
}

// UpOrDown says the state of a link.
func UpOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
