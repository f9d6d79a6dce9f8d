package fleet

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// chart is a line chart, drawn as an SVG with a white background, so that it is
// readable on a dark page too.
type chart struct {
	title, x, y string // with units
	xLog, yLog  bool
	xTicks      []float64
	yTicks      []float64
	series      []series
	shade       [2]float64 // on the x axis; none if equal
	shadeName   string
}

type series struct {
	name   string
	dashed bool
	points [][2]float64
}

// colors can be told apart with the common kinds of color blindness (Okabe, Ito).
var colors = []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"}

const (
	chartWidth, chartHeight   = 760, 440
	plotLeft, plotRight       = 90, 715
	plotTop, plotBottom       = 45, 310
	legendTop, legendRowSpace = 372, 20
)

// scale maps the range of the ticks to pixels.
func scale(v float64, ticks []float64, log bool, from, to float64) float64 {
	low, high := ticks[0], ticks[len(ticks)-1]
	if log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return from + (v-low)/(high-low)*(to-from)
}

func (c chart) svg() string {
	var b strings.Builder
	at := func(p [2]float64) (x, y float64) {
		return scale(p[0], c.xTicks, c.xLog, plotLeft, plotRight), scale(p[1], c.yTicks, c.yLog, plotBottom, plotTop)
	}
	text := func(x, y float64, size int, anchor, more, s string) {
		s = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s"%s>%s</text>`+"\n", x, y, size, anchor, more, s)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="DejaVu Sans, Arial, sans-serif" fill="#222222">`+"\n",
		chartWidth, chartHeight, chartWidth, chartHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, chartHeight)
	text(chartWidth/2, 24, 15, "middle", ` font-weight="bold"`, c.title)
	if c.shade[1] > c.shade[0] {
		x1, _ := at([2]float64{c.shade[0], c.yTicks[0]})
		x2, _ := at([2]float64{c.shade[1], c.yTicks[0]})
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#eeeeee"/>`+"\n", x1, plotTop, x2-x1, plotBottom-plotTop)
		text((x1+x2)/2, plotTop+16, 12, "middle", "", c.shadeName)
	}
	for _, v := range c.xTicks {
		x, _ := at([2]float64{v, c.yTicks[0]})
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#dddddd"/>`+"\n", x, plotTop, plotBottom)
		text(x, plotBottom+18, 12, "middle", "", tickText(v))
	}
	for _, v := range c.yTicks {
		_, y := at([2]float64{c.xTicks[0], v})
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#dddddd"/>`+"\n", plotLeft, y, plotRight)
		text(plotLeft-8, y+4, 12, "end", "", tickText(v))
	}
	fmt.Fprintf(&b, `<path d="M%d %d V%d H%d" fill="none" stroke="#222222"/>`+"\n", plotLeft, plotTop, plotBottom, plotRight)
	text((plotLeft+plotRight)/2, plotBottom+40, 13, "middle", "", c.x)
	text(0, 0, 13, "middle", fmt.Sprintf(` transform="translate(22 %d) rotate(-90)"`, (plotTop+plotBottom)/2), c.y)
	for i, s := range c.series {
		style := fmt.Sprintf(`fill="none" stroke="%s" stroke-width="2.2"`, colors[i%len(colors)])
		if s.dashed {
			style += ` stroke-dasharray="7 4"`
		}
		var path strings.Builder
		for k, p := range s.points {
			x, y := at(p)
			fmt.Fprintf(&path, "%c%.1f %.1f ", "ML"[min(k, 1)], x, y)
		}
		fmt.Fprintf(&b, `<path d="%s" %s/>`+"\n", strings.TrimSpace(path.String()), style)
		x, y := float64(plotLeft+(i%2)*330), float64(legendTop+i/2*legendRowSpace)
		fmt.Fprintf(&b, `<path d="M%.1f %.1f h32" %s/>`+"\n", x, y, style)
		text(x+40, y+4, 13, "start", "", s.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// tickText prints a number with commas.
func tickText(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	whole, fraction, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		return whole + "." + fraction
	}
	return whole
}
