package schema

import (
	"fmt"
	"testing"
)

func TestFormatsAsPydanticZodAndGoWriteThem(t *testing.T) {
	for format, values := range map[string]struct{ good, bad []string }{
		"date-time": {
			[]string{
				"2020-01-02T03:04:05", "2020-01-02T03:04:05.000600", "2020-01-02T03:04:05Z", "2020-01-02T03:04:05.5+05:30",
				"2020-01-02t03:04:05z", "2024-02-29T00:00:00",
			},
			[]string{"", "2020-01-02", "2020-13-02T03:04:05", "2020-01-02T25:04:05", "2020-01-02T03:04:05+0530", "2023-02-29T00:00:00", "T", "x"},
		},
		"time": {
			[]string{"01:02:03", "01:02:03.000400", "01:02:03Z", "01:02:03.5-08:00"},
			[]string{"", "25:00:00", "01:02", "01:02:03+08", "1:2:3", "Z"},
		},
		"duration": {
			[]string{"PT0S", "-PT0.5S", "P1Y34DT23H59M59.5S", "-P2DT23H59M58.75S", "P3W", "PT1H30M", "P1D", "+PT1S", "P1Y2M3DT4H5M6S"},
			[]string{"", "P", "PT", "P1DT", "P1S", "1D", "PT1D", "P1M1Y", "--PT1S", "PN", "PNS", "PTNS", "P-1D", "PT.5S", "PW", "PT5"},
		},
		"ipv4": {
			[]string{"1.2.3.4", "0.0.0.0", "255.255.255.255"},
			[]string{"+1.2.3.4", "1.2.3.+4", "1.2.3", "256.1.1.1", "01.2.3.4", "1.2.3.4.5", "::1", "::ffff:1.2.3.4", ""},
		},
		"email": {
			[]string{"a@example.com", "first.last+tag@example.co.uk"},
			[]string{"@example.com", "a@", "a", "", "a b@example.com", "@"},
		},
		"uri-template": {
			[]string{
				"/items/{id}", "/items{?q}", "{/v}", "{#v}", "{+path}", "{.ext}", "{;x,y}", "/a{?q,r*}{&more:3}", "https://x/{a.b}", "", "/plain",
				"http://example.com/dictionary/{term:1}/{term}",
			},
			[]string{"/items/{", "/items/}", "{}", "{?}", "{{a}}", "{a b}", "{=a}", "{a:0}", "a b", "%zz"},
		},
	} {
		s, err := Compile("svc", fmt.Appendf(nil, `{"type":"object","properties":{"v":{"type":"string","format":%q}}}`, format))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values.good {
			if _, errs := s.Effective(map[string]any{"v": v}); len(errs) > 0 {
				t.Errorf("%s: %q is refused: %v", format, v, errs)
			}
		}
		for _, v := range values.bad {
			if _, errs := s.Effective(map[string]any{"v": v}); len(errs) == 0 {
				t.Errorf("%s: %q is accepted", format, v)
			}
		}
	}
}
