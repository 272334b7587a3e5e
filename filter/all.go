package filter

// Table lists the filters.
var Table = []Kind{
	normalizeTimestamps,
	exclude,
	search,
	inspect,
	stripXattrs,
	chown,
	setConfig,
}
