//! `saker rules check FILE`, `saker rules test FILE` and `saker rules explain FILE`: what is wrong with a rules file,
//! whether its own tests pass, and what it does in words. Findings go to stdout, since they are the result; only a file
//! that cannot be read is an error of the call.

use std::{path::Path, process::ExitCode};

use serde_json::json;

use super::say;
use crate::{
    admin::{self, rules::NotRead},
    rules::{self, Finding, Mode, RuleSet},
    types::time::Timestamp,
};

/// Checks a rules file, which is to decide from `now` on. Exit code 0 where it can be used (warnings are shown), 1
/// where it is wrong, 2 where it cannot be read.
pub fn check(path: &Path, now: Timestamp, format_json: bool) -> ExitCode {
    let (name, rules) = match usable(path, format_json) {
        Ok(usable) => usable,
        Err(code) => return code,
    };
    let warnings = rules.warnings_at(&name, now);
    if format_json {
        print_json(&name, Some(&rules), &warnings);
    } else {
        print_findings(&warnings);
        let (count, aggregates) = (rules.rules.len(), rules.aggregates.len());
        say(format_args!(
            "{name}: version {}, {count} rules, {aggregates} aggregates: can be used",
            rules.version
        ));
    }
    ExitCode::SUCCESS
}

/// Runs the tests written in a rules file. Exit code 0 where all pass, 1 where one fails or the file is wrong, 2
/// where it cannot be read.
pub fn test(path: &Path, format_json: bool) -> ExitCode {
    let (name, rules) = match usable(path, format_json) {
        Ok(usable) => usable,
        Err(code) => return code,
    };
    let results = rules::run_tests(&rules);
    let failed = results.iter().filter(|result| !result.passed).count();
    if format_json {
        say(format_args!(
            "{}",
            json!({ "file": name, "version": &*rules.version, "failed": failed, "tests": results })
        ));
    } else {
        for result in results.iter().filter(|result| !result.passed) {
            say(format_args!("{name}:{}: test failed: {}", result.line, result.name));
            for failure in &result.failures {
                say(format_args!("  {failure}"));
            }
        }
        say(format_args!("{name}: {} tests, {failed} failed", results.len()));
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Says in words what a rules file does, reads and costs. Exit code 0, or 1 where it is wrong, 2 where it cannot be read.
pub fn explain(path: &Path, format_json: bool) -> ExitCode {
    let (name, rules) = match usable(path, format_json) {
        Ok(usable) => usable,
        Err(code) => return code,
    };
    let evaluated = rules.explanations.iter().filter(|rule| rule.mode != Mode::Off.name());
    let cost_ns: u32 = evaluated.map(|rule| rule.cost_ns).sum();
    if format_json {
        let aggregates = rules.aggregates.iter().map(
            |aggregate| json!({ "name": &*aggregate.name, "meaning": rules::explain_aggregate(aggregate) }),
        );
        say(format_args!(
            "{}",
            json!({
                "file": name,
                "version": &*rules.version,
                "cost_ns": cost_ns,
                "aggregates": aggregates.collect::<Vec<_>>(),
                "rules": rules.explanations,
            })
        ));
        return ExitCode::SUCCESS;
    }
    say(format_args!(
        "{name}: version {}, {} rules, about {cost_ns} ns a decision where all are evaluated to the end",
        rules.version,
        rules.rules.len()
    ));
    for rule in &rules.explanations {
        let mut mode = rule.mode_from.clone().unwrap_or_else(|| rule.mode.to_owned());
        if let Some(percent) = rule.live_percent {
            mode += &format!(" for {percent} % of the cards and in shadow for the others");
        }
        if rule.protected {
            mode += ", protected from the guard";
        }
        say(format_args!("\n{} ({mode}, about {} ns)\n  {}", rule.rule, rule.cost_ns, rule.then));
        for entity in &rule.suppressed_for {
            say(format_args!("  Suppressed for {entity}."));
        }
        say(format_args!("  Fires where:"));
        for line in &rule.when {
            say(format_args!("    {line}"));
        }
        say(format_args!("  Reads:"));
        for read in &rule.reads {
            let unit = if read.unit.is_empty() { String::new() } else { format!(" in {}", read.unit) };
            say(format_args!("    {} ({}{unit}): {}", read.name, read.ty, read.meaning));
            if read.footprint.is_some() {
                say(format_args!("      memory: {}", read.memory()));
            }
        }
    }
    ExitCode::SUCCESS
}

/// Lists every name that a rule may use besides the aggregates and lists of its own file; names that mean the same stand
/// side by side, the one that messages use first.
pub fn names(format_json: bool) -> ExitCode {
    let names = rules::names();
    if format_json {
        say(format_args!("{}", json!({ "names": names })));
        return ExitCode::SUCCESS;
    }
    let rows = names.into_iter().map(|name| {
        let unit = if name.unit.is_empty() { String::new() } else { format!(" in {}", name.unit) };
        let all = [&[&*name.name], name.aliases].concat().join(", ");
        (all, format!("{}{unit}", name.ty), name.meaning)
    });
    let rows: Vec<_> = rows.collect();
    let name_width = rows.iter().map(|(name, _, _)| name.len()).max().unwrap_or(0) + 2;
    let type_width = rows.iter().map(|(_, ty, _)| ty.len()).max().unwrap_or(0) + 2;
    for (name, ty, meaning) in rows {
        say(format_args!("{name:<name_width$}{ty:<type_width$}{meaning}"));
    }
    ExitCode::SUCCESS
}

/// A file's name and its rules. One that cannot be used has been told of already, and leads to the exit code.
fn usable(path: &Path, format_json: bool) -> Result<(String, RuleSet), ExitCode> {
    let name = path.display().to_string();
    let source = admin::rules::source(Some(path)).map_err(|error| match error {
        NotRead::InPart { findings, .. } => refuse(&name, &findings, format_json),
        NotRead::File { error, .. } => {
            eprintln!("error: cannot read the rules file {name}: {error}");
            ExitCode::from(2)
        }
    })?;
    match rules::compile(&name, &source.text) {
        Ok(rules) => Ok((name, rules)),
        Err(findings) => Err(refuse(&name, &findings, format_json)),
    }
}

fn refuse(name: &str, findings: &[Finding], format_json: bool) -> ExitCode {
    if format_json {
        print_json(name, None, findings);
    } else {
        print_findings(findings);
        say(format_args!("{name}: cannot be used"));
    }
    ExitCode::from(1)
}

fn print_findings(findings: &[Finding]) {
    for finding in findings {
        say(format_args!("{finding}\n"));
    }
}

fn print_json(name: &str, rules: Option<&RuleSet>, findings: &[Finding]) {
    let result = json!({
        "file": name,
        "usable": rules.is_some(),
        "version": rules.map(|rules| &*rules.version),
        "rules": rules.map(|rules| rules.rules.len()),
        "aggregates": rules.map(|rules| rules.aggregates.len()),
        "findings": findings,
    });
    say(format_args!("{result}"));
}
