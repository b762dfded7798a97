// SPDX-License-Identifier: BSD-3-Clause
//! Samples become rows of a table.

use serde_json::{Map, Value, json};

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value below which this share of the samples lies, by nearest rank.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let sorted = sorted(samples);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The value in the middle, or between the two that are.
pub fn median(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

/// Median and range of values, one of each turn.
pub fn spread(turns: &[f64]) -> Value {
    json!({ "median": median(turns), "low": quantile(turns, 0.0), "high": quantile(turns, 1.0) })
}

/// A row of a table: what each driver had in each turn.
pub struct Row(Map<String, Value>);

impl Row {
    pub fn new(what: impl Into<String>, unit: &str) -> Self {
        let mut row = Map::new();
        row.insert("what".into(), json!(what.into()));
        row.insert("unit".into(), json!(unit));
        Self(row)
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.into(), value);
        self
    }

    pub fn ours(self, turns: &[f64]) -> Self {
        let pairs = json!(turns.len());
        self.with("ours", spread(turns)).with("pairs", pairs)
    }

    pub fn c(self, turns: &[f64]) -> Self {
        self.with("c", spread(turns))
    }

    /// What there is without either driver.
    pub fn base(self, name: &str, turns: &[f64]) -> Self {
        let mut base = spread(turns);
        base["name"] = json!(name);
        self.with("base", base)
    }

    /// C to ours, pair by pair. Ours counts as `least` where it is less: what cannot be told from nothing.
    pub fn ratio(self, ours: &[f64], c: &[f64], least: f64) -> Self {
        let ratio = spread(&ratios(ours, c, least));
        self.with("ratio", ratio)
    }

    pub fn goal(self, goal: impl Into<String>, met: bool) -> Self {
        self.with("goal", json!(goal.into())).with("met", json!(met))
    }

    pub fn note(self, note: impl Into<String>) -> Self {
        self.with("note", json!(note.into()))
    }

    pub fn done(self) -> Value {
        Value::Object(self.0)
    }
}

pub fn ratios(ours: &[f64], c: &[f64], least: f64) -> Vec<f64> {
    ours.iter().zip(c).map(|(ours, c)| c / ours.max(least)).collect()
}

/// A row as a line of text.
pub fn line(row: &Value) -> String {
    let number = |value: &Value| format!("{:.4}", value["median"].as_f64().unwrap_or(f64::NAN));
    let part =
        |name: &str, key: &str| row.get(key).map_or(String::new(), |value| format!("  {name} {}", number(value)));
    let met = row.get("met").map_or("", |met| if met == true { "met" } else { "NOT MET" });
    format!(
        "{} [{}]{}{}{}{}  {met}",
        row["what"].as_str().unwrap_or_default(),
        row["unit"].as_str().unwrap_or_default(),
        part("ours", "ours"),
        part("C", "c"),
        part("base", "base"),
        part("ratio", "ratio"),
    )
}
