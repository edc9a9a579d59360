// What checking the searches of both sides came to, and when that began; not noted where there is no control node.
MATCH (c:SegueControl {collection: $collection})
SET c.searched_epoch = $epoch, c.searched_ok = $good, c.searched_recall = $recall, c.searched_neo4j_recall = $neo4j_recall,
    c.searched_least = $least, c.searched_at = timestamp() - $milliseconds
