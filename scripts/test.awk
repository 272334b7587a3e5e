# Reads `go test -v ./...` and prints what go test without -v would: one line a
# package, and the output of tests that failed. Then it names every test that
# was skipped; under CI=true that is a failure, since a green run has run
# everything.
#
# What does not compile is said on stderr, which is not read here. Packages come
# one after another, each closed by a line of its own.
# "=== NAME T" says whose output follows, which is indented by four spaces.

/^=== (RUN|CONT|NAME) / { test = $3; next }
/^=== PAUSE / { next }

/^ *--- (PASS|FAIL|SKIP): / {
	if ($2 == "FAIL:")
		failed = failed output[$3] $0 "\n"
	if ($2 == "SKIP:")
		skipped = skipped output[$3] $0 "\n"
	delete output[$3]
	next
}

/^(ok  |\?   |FAIL)\t/ {
	if ($1 == "FAIL")
		flush_failed()
	print
	fflush()
	failed = ""
	split("", output)
	next
}

# The race detector indents, and doesn't know which test it is in.
/^ *==================$/ { race = !race }

/^    / && !race { output[test] = output[test] $0 "\n"; next }

{ failed = failed $0 "\n" }

END {
	flush_failed() # what came after the last package: why go test gave up
	if (skipped != "") {
		printf "\nskipped:\n%s", skipped
		if (ENVIRON["CI"] == "true")
			exit 1
	}
}

# Tests that never ended have the rest.
function flush_failed(t) {
	for (t in output)
		printf "%s", output[t]
	printf "%s", failed
}
