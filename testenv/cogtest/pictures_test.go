package cogtest

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/holdfast-config/holdfast/testenv"
)

// TestPictures makes the pictures of the documentation, light and dark: a service, the
// difference before it is saved, the merge, the cluster. `make screenshots` names the
// directory that they are for.
func TestPictures(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("HOLDFAST_PICTURES")
	if dir == "" {
		dir = t.TempDir()
	}
	c := testenv.StartCluster(t, 3, 0)
	a := c.Nodes[0]
	token := func(name string) string {
		made := struct{ Token string }{}
		a.Try("POST", "/api/config/tokens", `{"name":"`+name+`","role":"config.write"}`).Into(t, &made)
		return made.Token
	}
	ann, bo := token("ann"), token("bo")
	change := func(who, reason, patch string) {
		t.Helper()
		a.Try("PATCH", "/api/config/services/stt-worker", patch, "X-API-Token: "+who, "X-Config-Reason: "+reason).OK(t)
	}
	change(ann, "short pauses were cut off", `{"vad_silence_duration_ms":650}`)
	change(bo, "quieter room", `{"vad_threshold":0.6,"whisper_model":"small.en"}`)
	change(ann, "more partials for the panel", `{"streaming_partials":true}`)

	p := signIn(t, a.AdminAddr, bo)
	p.Size(1200, 760)
	take := func(name string) {
		t.Helper()
		for _, scheme := range []string{"light", "dark"} {
			p.Scheme(scheme)
			small := smaller(t, p.Picture())
			if err := os.WriteFile(filepath.Join(dir, name+"-"+scheme+".png"), small, 0o644); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s-%s.png: %d KB", name, scheme, len(small)/1024)
		}
		p.Scheme("light")
	}
	p.Open("/cog/cluster")
	p.Shows("3 of 3 voters answer, 2 are needed.")
	take("cluster")
	p.Open("/services/stt-worker")
	p.Shows("quieter room")
	take("service")

	p.Press("e")
	p.Fill("vad_threshold", "0.55")
	p.Shows("checked")
	p.Confirm()
	p.Await("the difference", "document.querySelector('dialog[open] .new')?.textContent.includes('0.55')")
	take("diff")
	p.Press(kb.Escape)
	p.Await("the form", "!document.querySelector('dialog[open]')")
	change(ann, "the hall is louder", `{"vad_threshold":0.7,"sample_rate":48000}`)
	p.Click("Decide")
	p.Await("the choice", "document.querySelector('main input[type=radio]') && text().includes('0.7')")
	p.Run("window.scrollTo(0, 0)")
	take("merge")
}

// smaller is a picture with the 256 colours that are in it most often.
func smaller(t *testing.T, data []byte) []byte {
	t.Helper()
	src, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	count := map[color.RGBA]int{}
	b := src.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(src.At(x, y)).(color.RGBA) }
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	if len(count) < 32 {
		t.Fatalf("the picture has %d colours: the page is not drawn", len(count))
	}
	var colours []color.RGBA
	for c := range count {
		colours = append(colours, c)
	}
	slices.SortFunc(colours, func(a, b color.RGBA) int { return count[b] - count[a] })
	var palette color.Palette
	for _, c := range colours[:min(256, len(colours))] {
		palette = append(palette, c)
	}
	out, near := image.NewPaletted(b, palette), map[color.RGBA]uint8{}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := at(x, y)
			i, known := near[c]
			if !known {
				i = uint8(palette.Index(c))
				near[c] = i
			}
			out.SetColorIndex(x, y, i)
		}
	}
	var buf bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&buf, out); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
