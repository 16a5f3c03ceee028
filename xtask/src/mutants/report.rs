//! What became of each breakage.

use std::fmt::{self, Write};

use super::Mutant;
use super::excuse::{Excuse, Verdict};

/// Characters of a line shown on either side of what differs.
const CONTEXT: usize = 24;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The test that noticed it.
    Noticed(String),
    Survived,
    /// Why the tests did not get to say.
    Undecided(String),
    /// No longer a valid shader.
    Invalid,
    /// The shader states why no test notices it.
    Excused(Excuse),
    NotRun,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noticed(how) => write!(formatter, "noticed by {how}"),
            Self::Survived => formatter.write_str("SURVIVED"),
            Self::Undecided(why) => write!(formatter, "UNDECIDED: {why}"),
            Self::Invalid => formatter.write_str("invalid"),
            Self::Excused(excuse) => write!(formatter, "{excuse}"),
            Self::NotRun => formatter.write_str("not run"),
        }
    }
}

pub(crate) struct Report {
    rows: Vec<(Mutant, Outcome)>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, mutant: Mutant, outcome: Outcome) {
        self.rows.push((mutant, outcome));
    }

    /// What no test has noticed.
    pub(crate) fn unnoticed(&self) -> impl Iterator<Item = &(Mutant, Outcome)> {
        self.rows.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Survived | Outcome::Undecided(_)))
    }

    /// One row for each breakage in the order of the files, aligned.
    pub(crate) fn table(&self) -> String {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|(mutant, _)| (&mutant.file, mutant.breakage.span.start));
        let cells = rows.iter().map(|(mutant, outcome)| {
            let operator = mutant.breakage.operator.name();
            [format!("{}:{}", mutant.file, mutant.line), operator.to_string(), change(mutant), outcome.to_string()]
        });
        let header = ["place", "operator", "change", "outcome"].map(str::to_string);
        let cells: Vec<_> = [header].into_iter().chain(cells).collect();
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (place, operator, change) = (width(0), width(1), width(2));
        cells.iter().fold(String::new(), |mut table, row| {
            let [a, b, c, d] = row;
            // Writing to a String cannot fail.
            writeln!(table, "{a:place$}  {b:operator$}  {c:change$}  {d}").ok();
            table
        })
    }

    /// Counts, then the survivors, then the excused breakages of each verdict.
    pub(crate) fn summary(&self) -> String {
        let count = |test: fn(&Outcome) -> bool| self.rows.iter().filter(|(_, outcome)| test(outcome)).count();
        let excused = Verdict::ALL.map(|verdict| format!("{} {verdict}", self.excused(verdict).count()));
        let mut summary = format!(
            "{} breakages: {} noticed, {} invalid, {}, {} survived, {} undecided, {} not run\n",
            self.rows.len(),
            count(|outcome| matches!(outcome, Outcome::Noticed(_))),
            count(|outcome| *outcome == Outcome::Invalid),
            excused.join(", "),
            count(|outcome| *outcome == Outcome::Survived),
            count(|outcome| matches!(outcome, Outcome::Undecided(_))),
            count(|outcome| *outcome == Outcome::NotRun),
        );
        // Writing to a String cannot fail.
        for (mutant, outcome) in self.unnoticed() {
            writeln!(summary, "{outcome}: {}", place(mutant)).ok();
        }
        for verdict in Verdict::ALL {
            let mut lines = self.excused(verdict).peekable();
            if lines.peek().is_some() {
                writeln!(summary, "\n{verdict}:").ok();
            }
            for (mutant, reason) in lines {
                writeln!(summary, "  {}\n    {reason}", place(mutant)).ok();
            }
        }
        summary
    }

    /// Breakages excused by that verdict, with reasons.
    fn excused(&self, verdict: Verdict) -> impl Iterator<Item = (&Mutant, &str)> {
        self.rows.iter().filter_map(move |(mutant, outcome)| match outcome {
            Outcome::Excused(excuse) if excuse.verdict == verdict => Some((mutant, excuse.reason.as_str())),
            _ => None,
        })
    }
}

/// Where and what, in one line.
pub(crate) fn place(mutant: &Mutant) -> String {
    format!("{}:{} {}: {}", mutant.file, mutant.line, mutant.breakage.operator.name(), change(mutant))
}

/// `original → mutated`, cut to the surroundings of what differs.
fn change(mutant: &Mutant) -> String {
    let (source, breakage) = (&mutant.source, &mutant.breakage);
    let [before, after] = breakage.surroundings(source);
    let head = cut(before.trim_start(), 0, CONTEXT);
    let tail = cut(after.trim_end(), CONTEXT, 0);
    let whole = |middle: &str| {
        let line = format!("{head}{}{tail}", cut(middle, CONTEXT, CONTEXT));
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() { "(nothing)".to_string() } else { line }
    };
    format!("{} → {}", whole(&source[breakage.span.clone()]), whole(&breakage.replacement))
}

/// At most so many characters from the start and from the end, an ellipsis for the rest.
fn cut(text: &str, from_start: usize, from_end: usize) -> String {
    let length = text.chars().count();
    if length <= from_start + from_end {
        return text.to_string();
    }
    let head = text.chars().take(from_start);
    let tail = text.chars().skip(length - from_end);
    head.chain(['…']).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::super::excuse::excuses;
    use super::super::operators::breakages;
    use super::super::wgsl::Shader;
    use super::*;

    fn mutants(source: &str) -> Vec<Mutant> {
        let all = breakages(&Shader::parse(source)).into_iter();
        all.map(|breakage| Mutant {
            file: "shaders/a.wgsl".into(),
            line: 2,
            breakage,
            source: source.into(),
            excuse: None,
            stages: Vec::new(),
        })
        .collect()
    }

    #[test]
    fn a_change_shows_the_line_before_and_after_without_its_comment() {
        let changes: Vec<_> = mutants("fn f() {\n    a = b - c; // why\n}").iter().map(change).collect();
        assert_eq!(changes, ["a = b - c; → a = b;", "a = b - c; → a = b + c;"]);
    }

    #[test]
    fn long_lines_are_cut_around_the_change() {
        let change =
            change(&mutants("fn f() {\n    return abcdefghijklmnopqrstuvwxyz - abcdefghijklmnopqrstuvwxyz;\n}")[1]);
        assert_eq!(
            change,
            "…defghijklmnopqrstuvwxyz - abcdefghijklmnopqrstuvw… → …defghijklmnopqrstuvwxyz + abcdefghijklmnopqrstuvw…"
        );
    }

    /// The first breakage is equivalent, the second undetected, the third survived.
    fn report() -> Report {
        let source = "fn f() {\n    // equivalent: c is 0\n    // undetected: a race\n    a = b - c;\n}";
        let excuses = excuses(&Shader::parse(source)).expect("well-formed excuses").into_iter().map(Outcome::Excused);
        let mut report = Report::new();
        let mutants = mutants("fn f() {\n    a = b - c;\n    d = e;\n}");
        for (mutant, outcome) in mutants.into_iter().zip(excuses.chain([Outcome::Survived])) {
            report.add(mutant, outcome);
        }
        report
    }

    /// The lines of the summary below a heading.
    fn listed(heading: &str) -> Vec<String> {
        let summary = report().summary();
        let lines = summary.lines().skip_while(|line| *line != heading).skip(1);
        lines.take_while(|line| line.starts_with("  ")).map(str::to_string).collect()
    }

    #[test]
    fn equivalent_breakages_are_listed_apart() {
        assert_eq!(listed("equivalent:"), ["  shaders/a.wgsl:2 drop: a = b - c; → a = b;", "    c is 0"]);
    }

    #[test]
    fn undetected_breakages_are_listed_apart() {
        assert_eq!(listed("undetected here:"), ["  shaders/a.wgsl:2 sign: a = b - c; → a = b + c;", "    a race"]);
    }

    #[test]
    fn the_summary_names_the_survivors_and_counts_the_rest() {
        let mut report = report();
        let mutants = mutants("fn f() {\n    a = b - c;\n}");
        let noticed = Outcome::Noticed("tests/it/rules.rs: lion".into());
        for outcome in [Outcome::Undecided("killed".into()), noticed, Outcome::Invalid, Outcome::NotRun] {
            report.add(mutants[1].clone(), outcome);
        }
        let (summary, table) = (report.summary(), report.table());
        let counts =
            "7 breakages: 1 noticed, 1 invalid, 1 equivalent, 1 undetected here, 1 survived, 1 undecided, 1 not run\n";
        assert!(summary.starts_with(counts), "{summary}");
        assert!(summary.contains("\nSURVIVED: shaders/a.wgsl:2 delete: d = e; → (nothing)\n"), "{summary}");
        assert_eq!(report.unnoticed().count(), 2);
        for outcome in ["equivalent: c is 0", "undetected here: a race", "SURVIVED"] {
            assert!(table.contains(outcome), "{table}");
        }
    }
}
