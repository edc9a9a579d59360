// A value as the text that it is in Milvus: dates, times and durations as the driver writes them; null when it is no text.
CASE
  WHEN <<value>> IS :: STRING NOT NULL THEN <<value>>
  WHEN <<value>> IS :: DATE NOT NULL OR <<value>> IS :: DURATION NOT NULL THEN toString(<<value>>)
  WHEN <<value>> IS :: ZONED DATETIME NOT NULL OR <<value>> IS :: LOCAL DATETIME NOT NULL
    OR <<value>> IS :: ZONED TIME NOT NULL OR <<value>> IS :: LOCAL TIME NOT NULL
    THEN CASE WHEN <<value>> IS :: ZONED DATETIME NOT NULL OR <<value>> IS :: LOCAL DATETIME NOT NULL
        THEN toString(date(<<value>>)) + 'T' ELSE '' END
      + right('0' + toString(<<value>>.hour), 2) + ':' + right('0' + toString(<<value>>.minute), 2)
      + ':' + right('0' + toString(<<value>>.second), 2) + '.' + right('00000000' + toString(<<value>>.nanosecond), 9)
      + CASE WHEN <<value>> IS :: LOCAL DATETIME NOT NULL OR <<value>> IS :: LOCAL TIME NOT NULL THEN ''
        WHEN <<value>>.offset = 'Z' THEN '+00:00' ELSE left(<<value>>.offset, 6) END
END
