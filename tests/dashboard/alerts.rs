//! `grafana/alerts.yml` as far as the tests read it: one key a line, texts in quotes or bare, nothing folded. Whether
//! it is YAML and a rules file at all is what `promtool` and Prometheus are asked.

use std::collections::BTreeMap;

/// One alert with the keys below it, such as `expr`, `for`, `severity`, `summary`.
pub struct Alert {
    pub name: String,
    pub keys: BTreeMap<String, String>,
}

impl Alert {
    /// # Panics
    /// Where the alert has no such key.
    pub fn get(&self, key: &str) -> &str {
        self.keys.get(key).unwrap_or_else(|| panic!("alerts.yml: {} has no `{key}`", self.name))
    }
}

/// # Panics
/// Where a line has a form that this reader does not know.
pub fn read(text: &str) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) =
            line.split_once(':').unwrap_or_else(|| panic!("alerts.yml:{}: {line}", number + 1));
        let value = value.trim();
        assert!(!matches!(value, "|" | ">" | "|-" | ">-"), "alerts.yml:{}: one line a text", number + 1);
        let value = match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
            Some(quoted) => quoted.replace("''", "'"),
            None => value.trim_matches('"').to_owned(),
        };
        if let Some(key) = key.strip_prefix("- ") {
            if key == "alert" {
                alerts.push(Alert { name: value, keys: BTreeMap::new() });
            }
        } else if let Some(alert) = alerts.last_mut() {
            let before = alert.keys.insert(key.to_owned(), value);
            assert!(before.is_none(), "alerts.yml:{}: `{key}` stands twice", number + 1);
        }
    }
    alerts
}
