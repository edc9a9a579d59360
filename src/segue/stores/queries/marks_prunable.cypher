// Locks the control node; a row when no copy is under way, nor still to be made under the present capture; one that was made
// while nobody wrote ended before there was a mark.
MATCH (c:SegueControl {collection: $collection})
SET c.looked_at = timestamp()
WITH c WHERE NOT coalesce(c.copying, false) AND c.copied IN ['static', coalesce(c.capture_token, c.library_token)]
RETURN c.copied AS copied
