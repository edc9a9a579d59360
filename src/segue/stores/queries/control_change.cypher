// The next epoch, in a mode; what the library captured ends where nothing is marked, what a trigger captures does not.
MATCH (c:SegueControl {collection: $collection})
SET c.mode = $mode, c.epoch = $epoch, c.reason = $reason, c.changed_at = timestamp(), c.changed_by = $changed_by,
    c.visible_ms = $visible_ms, c.fence_ms = $fence_ms, c.window_ms = $window_ms,
    c.library_token = CASE WHEN $marks THEN c.library_token END
