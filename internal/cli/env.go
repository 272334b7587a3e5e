package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/oci"
)

// otherNames are the environment variables that set a flag besides
// QUAYMASTER_<FLAG>: those that users of occystrap and pubtools-quay have.
var otherNames = map[string][]string{
	"username":       {"OCCYSTRAP_USERNAME"},
	"password":       {"OCCYSTRAP_PASSWORD", "QUAY_PASSWORD"},
	"parallel":       {"OCCYSTRAP_PARALLEL"},
	"image-parallel": {"OCCYSTRAP_IMAGE_PARALLEL"},
	"retries":        {"OCCYSTRAP_RETRIES"},
	"rate-limit":     {"OCCYSTRAP_RATE_LIMIT"},
	"quay-api-token": {"QUAY_API_TOKEN"},
	"layer-cache":    {"OCCYSTRAP_LAYER_CACHE"},
	"compression":    {"OCCYSTRAP_COMPRESSION"},
	"temp-dir":       {"OCCYSTRAP_TEMP_DIR"},

	"quay-password":        {"QUAY_PASSWORD"},
	"source-quay-password": {"SOURCE_QUAY_PASSWORD"},
	"dest-quay-password":   {"DEST_QUAY_PASSWORD"},
}

// rivals are flags that say of one thing the same or the opposite: where one is
// on the command line, what the environment says for the others is of no account.
var rivals = [][]string{
	{"plain-http", "insecure"},
	{"verify", "no-verify", "verify-full"},
	{"password", "password-stdin"},
	{"platform", "os"}, {"platform", "architecture"}, {"platform", "variant"},
}

// decided reports whether the command line has name or a rival of it.
func decided(cmd *cobra.Command, name string) bool {
	for _, names := range append(rivals, []string{name}) {
		if slices.Contains(names, name) && slices.ContainsFunc(names, cmd.Flags().Changed) {
			return true
		}
	}
	return false
}

// fromEnv sets the flags of cmd that the command line didn't, from the
// environment.
func (a *app) fromEnv(cmd *cobra.Command) error {
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if err != nil || decided(cmd, f.Name) || f.Name == "help" || f.Name == "version" {
			return
		}
		names := append([]string{"QUAYMASTER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))}, otherNames[f.Name]...)
		for _, name := range names {
			v := a.getenv(name)
			if v == "" {
				continue
			}
			// Not cmd.Flags().Set: Changed stays false, so that secrets from
			// here are told from secrets on the command line.
			if e := f.Value.Set(v); e != nil {
				err = oci.Usage(fmt.Sprintf("%s: %q is no value of --%s, which takes %s", name, v, f.Name, takes(f.Value.Type())))
			}
			return
		}
	})
	return err
}

// takes says what values a flag of type t has.
func takes(t string) string {
	switch t {
	case "bool":
		return "true or false"
	case "int", "int64":
		return "a whole number"
	case "duration":
		return "a time, as 90s, 5m or 24h"
	}
	return "a " + t
}
