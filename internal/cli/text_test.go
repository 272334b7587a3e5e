package cli

import "testing"

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KB", 2_306_867: "2.2 MB", 5 << 30: "5.0 GB", 3 << 50: "3072.0 TB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for want, got := range map[string]string{"1 image": count(1, "image"), "0 images": count(0, "image"), "3 repositories": count(3, "repository")} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got, want := oneLine("a\x1b[31mb\r\nc\u0085"), "a\uFFFD[31mb\uFFFD\uFFFDc\uFFFD"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
