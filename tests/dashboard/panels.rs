//! `grafana/panels.toml`, the short form of the dashboard, and the JSON that Grafana imports, rendered from it. The
//! JSON is Grafana's classic dashboard schema, which versions 10 to 13 load.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

/// Grafana's grid.
pub const COLUMNS: u64 = 24;
const WIDTH: u64 = 8;
/// The schema of Grafana 11; later versions migrate it when they load it.
const SCHEMA_VERSION: u64 = 39;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// Metrics that no panel shows, and why.
    pub not_shown: BTreeMap<String, String>,
    pub rows: Vec<Row>,
    pub marks: Vec<Mark>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub title: String,
    pub panels: Vec<Panel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    pub title: String,
    show: Show,
    width: Option<u64>,
    unit: String,
    /// The words for 0, 1 and so on.
    #[serde(default)]
    words: Vec<String>,
    warn: Option<f64>,
    bad: Option<f64>,
    pub queries: Vec<Query>,
    pub empty_when_healthy: Option<String>,
    description: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Show {
    State,
    Name,
    Figure,
    Lines,
    Stack,
    Heatmap,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    pub expr: String,
    legend: String,
}

/// A vertical mark on every panel, where its query has data.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    pub title: String,
    colour: String,
    pub expr: String,
    text: String,
}

impl Dashboard {
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    /// The dashboard as Grafana reads it.
    pub fn render(&self) -> String {
        let mut panels = Vec::new();
        let mut top = 0;
        for row in &self.rows {
            panels.push(json!({
                "id": panels.len() + 1, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": { "x": 0, "y": top, "w": COLUMNS, "h": 1 },
            }));
            top += 1;
            let (mut left, mut tallest) = (0, 0);
            for panel in &row.panels {
                let (width, height) = (panel.width.unwrap_or(WIDTH), panel.show.height());
                if left + width > COLUMNS {
                    (left, top, tallest) = (0, top + tallest, 0);
                }
                let place = json!({ "x": left, "y": top, "w": width, "h": height });
                panels.push(panel.render(panels.len() + 1, &place));
                left += width;
                tallest = tallest.max(height);
            }
            top += tallest;
        }
        let marks: Vec<_> = self.marks.iter().map(Mark::render).collect();
        let dashboard = json!({
            "uid": "saker-engine",
            "title": "Saker",
            "description": "Saker's authorisation engine. Rendered from grafana/panels.toml; change that instead.",
            "tags": ["saker", "payments"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": { "from": "now-1h", "to": "now" },
            "timepicker": {},
            "timezone": "browser",
            "fiscalYearStartMonth": 0,
            "links": [],
            "annotations": { "list": marks },
            "templating": { "list": variables() },
            "panels": panels,
        });
        // An own value always prints.
        format!("{dashboard:#}\n")
    }
}

impl Show {
    fn kind(self) -> &'static str {
        match self {
            Show::State | Show::Name | Show::Figure => "stat",
            Show::Lines | Show::Stack => "timeseries",
            Show::Heatmap => "heatmap",
        }
    }

    fn height(self) -> u64 {
        match self {
            Show::State | Show::Name | Show::Figure => 4,
            Show::Lines | Show::Stack | Show::Heatmap => 8,
        }
    }
}

impl Panel {
    fn render(&self, id: usize, place: &Value) -> Value {
        let targets: Vec<_> =
            self.queries.iter().enumerate().map(|(at, query)| self.target(at, query)).collect();
        let colours =
            if self.bad.is_some() && self.show.kind() == "stat" { "thresholds" } else { "palette-classic" };
        json!({
            "id": id,
            "type": self.show.kind(),
            "title": self.title,
            "description": self.description,
            "datasource": source(),
            "gridPos": place,
            "targets": targets,
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "color": { "mode": colours },
                    "mappings": self.mappings(),
                    "thresholds": self.thresholds(),
                    "custom": self.drawing(),
                },
                "overrides": [],
            },
            "options": self.options(),
        })
    }

    fn target(&self, at: usize, query: &Query) -> Value {
        // Grafana names queries by letter.
        let letter = char::from(b'A' + u8::try_from(at).expect("a handful of queries"));
        let moment = matches!(self.show, Show::State | Show::Name);
        json!({
            "refId": letter.to_string(),
            "datasource": source(),
            "editorMode": "code",
            "expr": of_chosen(&query.expr),
            "legendFormat": query.legend,
            "instant": moment,
            "range": !moment,
            "format": if self.show == Show::Heatmap { "heatmap" } else { "time_series" },
        })
    }

    /// Words and colours of a state's numbers.
    fn mappings(&self) -> Value {
        let words = self.words.iter().enumerate().map(|(number, word)| {
            let colour = if self.bad == Some(number as f64) { "red" } else { "green" };
            (number.to_string(), json!({ "text": word, "color": colour, "index": number }))
        });
        match self.words.is_empty() {
            true => json!([]),
            false => json!([{ "type": "value", "options": words.collect::<serde_json::Map<_, _>>() }]),
        }
    }

    fn thresholds(&self) -> Value {
        let mut steps = vec![json!({ "color": "green", "value": null })];
        // The colour of a state comes with its word.
        if self.show != Show::State {
            steps.extend(self.warn.map(|from| json!({ "color": "yellow", "value": from })));
            steps.extend(self.bad.map(|from| json!({ "color": "red", "value": from })));
        }
        json!({ "mode": "absolute", "steps": steps })
    }

    fn drawing(&self) -> Value {
        match self.show {
            Show::Lines | Show::Stack => json!({
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": if self.show == Show::Stack { 30 } else { 5 },
                "stacking": { "mode": if self.show == Show::Stack { "normal" } else { "none" }, "group": "A" },
                "showPoints": "never",
                "spanNulls": false,
                "axisSoftMin": 0,
                "thresholdsStyle": { "mode": if self.bad.is_some() { "dashed" } else { "off" } },
            }),
            Show::State | Show::Name | Show::Figure | Show::Heatmap => json!({}),
        }
    }

    fn options(&self) -> Value {
        let last = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
        let stat = |text: &str, graph: &str, colour: &str| {
            json!({ "textMode": text, "graphMode": graph, "colorMode": colour, "reduceOptions": last,
                    "orientation": "auto", "justifyMode": "auto", "wideLayout": true })
        };
        match self.show {
            Show::State => stat("value", "none", "background"),
            Show::Name => stat("name", "none", "none"),
            Show::Figure => stat("auto", "area", "value"),
            Show::Lines | Show::Stack => json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Show::Heatmap => json!({
                "calculate": false,
                "cellGap": 1,
                "color": { "mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5, "steps": 64 },
                "yAxis": { "axisPlacement": "left", "unit": self.unit },
                "legend": { "show": true },
                "tooltip": { "mode": "single", "yHistogram": true },
            }),
        }
    }
}

impl Mark {
    fn render(&self) -> Value {
        json!({
            "name": self.title, "datasource": source(), "enable": true, "hide": false,
            "iconColor": self.colour, "expr": of_chosen(&self.expr), "step": "30s",
            "titleFormat": self.title, "textFormat": self.text, "useValueForTime": false,
        })
    }
}

/// Prometheus as the viewer chose it.
fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${DS_PROMETHEUS}" })
}

/// The query for the jobs and instances that the viewer chose.
fn of_chosen(expr: &str) -> String {
    expr.replace("$of", r#"job=~"$job",instance=~"$instance""#)
}

fn variables() -> Value {
    let of_label = |name: &str, label: &str, query: &str| {
        json!({
            "name": name, "label": label, "type": "query", "datasource": source(), "definition": query,
            "query": { "query": query, "refId": "variable" }, "refresh": 2, "sort": 1, "regex": "",
            "multi": true, "includeAll": true, "allValue": ".+", "hide": 0, "options": [],
            "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
        })
    };
    json!([
        { "name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "query": "prometheus", "regex": "",
          "multi": false, "includeAll": false, "hide": 0, "options": [], "current": {}, "refresh": 1 },
        of_label("job", "Job", "label_values(saker_build_info, job)"),
        of_label("instance", "Instance", r#"label_values(saker_build_info{job=~"$job"}, instance)"#),
    ])
}
