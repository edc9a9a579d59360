// Which change made the present epoch.
MATCH (c:SegueControl {collection: $collection})
RETURN c.changed_by AS changed_by
