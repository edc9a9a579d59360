// From here on the library leaves a mark with every change; named by a token, unless a capture is named already.
MATCH (c:SegueControl {collection: $collection})
SET c.looked_at = timestamp()
WITH c
WHERE c.epoch = $epoch AND c.mode IN $marking AND c.library_token IS NULL AND c.capture_token IS NULL
SET c.library_token = randomUUID()
