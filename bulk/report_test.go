package bulk_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
)

// TestReportIsDocumented holds docs/report.md to the types: each key stands there.
func TestReportIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/report.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[oci.Report](), reflect.TypeFor[oci.Totals](), reflect.TypeFor[oci.Listing](),
		reflect.TypeFor[oci.ImageReport](), reflect.TypeFor[oci.CreatedRepository](),
	} {
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			keys[key] = true
		}
	}
	r := mustCopy(t, organisation(t, 1), layout(t), bulk.Options{})
	for key := range r.Transfers {
		keys[key] = true
	}
	for key := range keys {
		if !strings.Contains(string(doc), "`"+key+"`") {
			t.Errorf("docs/report.md doesn't say what %q is", key)
		}
	}
}

// A report that is read back is the same, so that list:// can take failures from it.
func TestReportReadsBack(t *testing.T) {
	src := organisation(t, 2)
	src.items[1].Ref.Tag = "gone"
	src.items[1].Desc.Digest = ""
	r, err := bulk.Copy(t.Context(), src, layout(t), bulk.Options{})
	if err == nil {
		t.Fatal("an image that isn't there was copied")
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back oci.Report
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Images, r.Images) || back.Totals != r.Totals || !back.Images[1].Undone() || back.Images[0].Undone() {
		t.Errorf("got\n%+v, want\n%+v", back, r)
	}
}
