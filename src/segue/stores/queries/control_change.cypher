// The next epoch, in a mode. Where nothing is marked, the library captures no more, though a trigger does, and what was copied
// while nobody wrote gets out of date unseen.
MATCH (c:SegueControl {collection: $collection})
SET c.mode = $mode, c.epoch = $epoch, c.reason = $reason, c.changed_at = timestamp(), c.changed_by = $changed_by,
    c.visible_ms = $visible_ms, c.fence_ms = $fence_ms, c.window_ms = $window_ms,
    c.library_token = CASE WHEN $marks THEN c.library_token END,
    c.copied = CASE WHEN $marks OR c.capture_token IS NOT NULL OR c.copied <> $static THEN c.copied END
