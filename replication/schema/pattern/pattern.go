package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Limits of patterns. Go's engine is linear in (size of the program) x (length of
// the text), so these limit the time of one match.
const (
	// MaxSource is the size of the largest pattern.
	MaxSource  = 4096
	maxProgram = 10000
	// MaxText is the size of the largest text that can match.
	MaxText = 64 << 10
)

// Pattern is a regular expression that cannot hang the process.
type Pattern struct {
	source string
	re     *regexp.Regexp // nil: every text matches, see Any
	except *regexp.Regexp // text that matches it does not match the pattern; nil: none
	size   int            // of the program
	memory int            // estimated bytes that it takes compiled
}

// Any is a pattern that is shown and not checked: every text matches.
func Any(source string) *Pattern { return &Pattern{source: source} }

// Weight returns the steps of one match of a short text.
func (p *Pattern) Weight() float64 { return 1 + float64(p.size)/10 }

// Memory is an estimate of the bytes that it takes. Compiled, a pattern takes up to
// thousands of times its text.
func (p *Pattern) Memory() int { return p.memory }

func (p *Pattern) String() string { return p.source }

// MatchString reports whether s contains a match; text over MaxText has none.
func (p *Pattern) MatchString(s string) bool {
	return p.re == nil || len(s) <= MaxText && (p.except == nil || !p.except.MatchString(s)) && p.re.MatchString(s)
}

// Pydantic writes these patterns for a Decimal: one lookahead that rules out text
// without a digit, and one in an alternative.
var (
	decimalLookahead   = `^(?!^[-+.]*$)`
	noDigit            = regexp.MustCompile(`^[-+.]*$`)
	decimalAlternative = regexp.MustCompile(`^(\[\+-\]\?0\*\(\?:\\d\{0,\d+\}\|)\(\?=\[\\d\.\]\{1,\d+\}0\*\$\)(\\d(?:\*|\{0,\d+\})\\\.\\d(?:\*|\{0,\d+\})0\*\$\))$`)
)

// withoutDecimalLookahead translates the pattern of a Decimal to one without
// lookahead, for text that noDigit does not match. The second lookahead restricts an
// alternative of one that matches every text, so the result is the same without it.
func withoutDecimalLookahead(source string) (text string, ok bool) {
	rest, ok := strings.CutPrefix(source, decimalLookahead)
	if !ok {
		return source, false
	}
	return "^" + decimalAlternative.ReplaceAllString(rest, "$1$2"), true
}

var unicodeEscape = regexp.MustCompile(`\\(\\|u\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|Z)`)

// Compile compiles an ECMA 262 or Python pattern with Go's engine, which has no
// lookaround and no back-references.
func Compile(source string) (*Pattern, error) {
	if len(source) > MaxSource {
		return nil, fmt.Errorf("pattern of %d bytes is over the limit of %d", len(source), MaxSource)
	}
	text, isDecimal := withoutDecimalLookahead(source)
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		// Go writes these differently: \uXXXX and \u{X} of ECMA 262, \Z of Python.
		text = unicodeEscape.ReplaceAllStringFunc(text, func(m string) string {
			switch {
			case m == `\Z`:
				return `\z`
			case m == `\\`:
				return m
			default:
				sub := unicodeEscape.FindStringSubmatch(m)
				return `\x{` + sub[2] + sub[3] + `}`
			}
		})
		if tree, err = syntax.Parse(text, syntax.Perl); err != nil {
			return nil, explain(err)
		}
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, explain(err)
	}
	if len(prog.Inst) > maxProgram {
		return nil, errors.New("pattern is too large: use smaller repetitions")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, explain(err)
	}
	p := &Pattern{source: source, re: re, size: len(prog.Inst), memory: programMemory(prog)}
	if isDecimal {
		p.except = noDigit
	}
	return p, nil
}

// programMemory estimates the bytes that Go's engine keeps for a program. A short one
// that starts with ^ can have a second form, with a jump for each range of characters;
// instructions of a repetition share those ranges.
func programMemory(prog *syntax.Prog) int {
	const (
		base, perInst, perJump = 1 << 10, 48, 14
		maxOnePass, perOnePass = 1000, 96
	)
	memory := base + perInst*len(prog.Inst)
	onePass := len(prog.Inst) < maxOnePass && prog.StartCond()&syntax.EmptyBeginText != 0
	seen := map[*rune]bool{}
	for i := range prog.Inst {
		in := &prog.Inst[i]
		if onePass {
			memory += perOnePass + perJump*len(in.Rune)
		}
		if len(in.Rune) > 0 && !seen[&in.Rune[0]] {
			seen[&in.Rune[0]] = true
			memory += 4 * len(in.Rune)
		}
	}
	return memory
}

// ErrLookaround is the error of a pattern that this engine cannot have.
var ErrLookaround = errors.New("lookaround and back-references are not supported, because their run time has no limit")

func explain(err error) error {
	se, ok := errors.AsType[*syntax.Error](err)
	if !ok {
		return err
	}
	switch se.Code {
	case syntax.ErrInvalidPerlOp, syntax.ErrInvalidEscape:
		return fmt.Errorf("%s %q: %w", se.Code, conf.Clip(se.Expr), ErrLookaround)
	default:
		return fmt.Errorf("%s %q", se.Code, conf.Clip(se.Expr))
	}
}
