//! The table of figures, and the machine that they were measured on.

use std::fmt;

/// All that was measured.
#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

/// A figure.
pub(crate) struct Row {
    what: String,
    measured: String,
    bound: String,
    met: Option<bool>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("bench: {}: {} ({})", row.what, row.measured, row.verdict());
        self.0.push(row);
    }
}

impl Row {
    /// What only gives others their scale.
    pub(crate) fn scale(what: impl Into<String>, measured: String) -> Self {
        Self { what: what.into(), measured, bound: "–".to_owned(), met: None }
    }

    pub(crate) fn at_most(what: impl Into<String>, measured: f64, bound: f64, unit: &str) -> Self {
        let met = Some(measured <= bound);
        Self { what: what.into(), measured: number(measured, unit), bound: format!("≤ {}", number(bound, unit)), met }
    }

    pub(crate) fn at_least(what: impl Into<String>, measured: f64, bound: f64, unit: &str) -> Self {
        let met = Some(measured >= bound);
        Self { what: what.into(), measured: number(measured, unit), bound: format!("≥ {}", number(bound, unit)), met }
    }

    /// With what else was seen.
    pub(crate) fn beside(mut self, seen: &str) -> Self {
        self.measured = format!("{} ({seen})", self.measured);
        self
    }

    fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "–",
        }
    }
}

fn number(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", machine())?;
        writeln!(f, "| figure | measured | bound | |\n|---|---|---|---|")?;
        for row in &self.0 {
            writeln!(f, "| {} | {} | {} | {} |", row.what, row.measured, row.bound, row.verdict())?;
        }
        Ok(())
    }
}

/// Cores, memory, kernel. What the disk is worth stands in the table.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib: f64 = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default();
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?");
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel: Vec<&str> = kernel.trim().splitn(3, ['.', '-']).take(2).collect();
    format!("{cores} cores, {:.0} GiB, Linux {}; load {load} at the end", kib / 1024.0 / 1024.0, kernel.join("."))
}
