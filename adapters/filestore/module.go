package filestore

import (
	"go.uber.org/fx"

	"github.com/weirnet/weir/ports"
)

// AttachmentsDir is where Module keeps the endpoints of the node.
type AttachmentsDir string

// Module provides a directory as the cluster (ports.Source, ports.Publisher, ports.Identities) and
// ports.Attachments. It needs Options and AttachmentsDir.
var Module = fx.Module("filestore",
	fx.Provide(
		fx.Annotate(Open, fx.As(new(ports.Source)), fx.As(new(ports.Publisher)), fx.As(new(ports.Identities))),
		func(dir AttachmentsDir) (ports.Attachments, error) { return OpenAttachments(string(dir)) },
	),
)
