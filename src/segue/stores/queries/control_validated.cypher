// What comparing both sides came to, and when that began; not noted where there is no control node.
MATCH (c:SegueControl {collection: $collection})
SET c.validated_epoch = $epoch, c.validated_mode = $depth, c.validated_ok = $clean, c.validated_rate = $rate,
    c.validated_digest = $digest, c.validated_sink_digest = $sink_digest,
    c.validated_at = timestamp() - $milliseconds
