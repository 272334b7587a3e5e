package cli

import "testing"

func TestBandwidth(t *testing.T) {
	tests := []struct {
		in   string
		want int64 // -1: refused
	}{
		{"", 0}, {"0", 0}, {"0M", 0}, {"1", 1}, {"4096", 4096}, {"500K", 500 << 10}, {"10m", 10 << 20}, {"1.5G", 3 << 29},
		{"0.5", -1}, {"-1", -1}, {"M", -1}, {"10MB", -1}, {"NaN", -1}, {"inf", -1}, {"1e99", -1}, {"10 M", -1},
	}
	for _, tt := range tests {
		got, err := (&connFlags{bandwidth: tt.in}).bytes()
		if err != nil {
			got = -1
		}
		if got != tt.want {
			t.Errorf("%q: got %d, want %d", tt.in, got, tt.want)
		}
	}
}
