package render

import "github.com/prometheus/client_golang/prometheus"

var (
	fileOK   = prometheus.NewDesc("holdfast_render_file_ok", "1 when render.yaml could be read, else 0.", nil, nil)
	failing  = prometheus.NewDesc("holdfast_render_failing", "1 while the files of a group cannot be brought to what they should be, else 0.", []string{"group"}, nil)
	failures = prometheus.NewDesc("holdfast_render_failures_total", "Attempts to render a group that failed, by the step that failed.", []string{"group", "step"}, nil)
	written  = prometheus.NewDesc("holdfast_render_files_written_total", "Files that were replaced.", []string{"group"}, nil)
	reloads  = prometheus.NewDesc("holdfast_render_reloads_total", "How often the program that reads the files was told.", []string{"group"}, nil)
	version  = prometheus.NewDesc("holdfast_render_version", "The version of a service that the files of a group are from.", []string{"group", "service"}, nil)
)

// Describe is part of prometheus.Collector.
func (j *Job) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(j, c) }

// Collect is part of prometheus.Collector.
func (j *Job) Collect(c chan<- prometheus.Metric) {
	j.mu.Lock()
	defer j.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(fileOK, gaugeOf(j.fileErr == nil))
	for name, p := range j.groups {
		gauge(failing, gaugeOf(p.err != nil), name)
		counter(written, p.written, name)
		counter(reloads, p.reloads, name)
		for _, step := range []string{StepRead, StepRender, StepCheck, StepWrite, StepReload} {
			counter(failures, p.failures[step], name, step)
		}
		for service, v := range p.versions {
			gauge(version, float64(v), name, service)
		}
	}
}

func gaugeOf(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
