//! From the text of a rules file to a [`RuleSet`], or to everything that is wrong with it.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use super::{
    Effect, Finding, LabelPolicy, Mode, Rule, RuleSet, cases,
    check::{Checker, Form, ListUse, ListValue, Problem, Scope, Sets, Variable},
    explain::Words,
    file::{self, AggregateDeclaration, At, Expression, File, ListValues, RuleDeclaration},
    filter::{self, Beside, Misplaced},
    finding::{Report, did_you_mean},
    listing,
    lists::{DeclaredList, FOR_EVER, FileValue, FileValues},
    modes::{Restricted, Suppression},
    parse::{self, Expr, SyntaxError, Unparsed},
    program::{self, Program},
    reach::Facts,
    trailer,
    typed::Bool,
};
use crate::{
    features::{
        aggregate::{Aggregate, Filter, Measure},
        amounts::AmountRange,
        catalog::{self, CATALOG, Entry, Type, slot},
        values::Slot,
    },
    limits::{
        AGGREGATES_MAX, LABEL_POLICIES_MAX, RULE_COST_MAX_NS, RULES_FILE_BYTES_MAX, RULES_MAX,
        SUPPRESSIONS_MAX,
    },
    types::lists::ListKind,
};

/// Stack for parsing and checking: the parser takes much of it for nested source.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Parses, checks and compiles a whole rules file. `file_name` is only for messages. Meant for start and reload, not
/// for the path of a decision: it starts a thread of its own and takes about a millisecond per rule.
///
/// # Errors
/// Every finding of the file, in its order, at least one of them an error; behind those of the lists' files that stand in
/// the text.
pub fn compile(file_name: &str, source: &str) -> Result<RuleSet, Vec<Finding>> {
    let is_short = source.len() <= RULES_FILE_BYTES_MAX;
    let Some((rest, mut findings)) = is_short.then(|| listing::without_wrong_lines(source)).flatten() else {
        return compile_kept(file_name, source);
    };
    findings.extend(compile_kept(file_name, &rest).err().into_iter().flatten());
    Err(findings)
}

/// As [`compile`], for a text that the engine has kept itself: what it took once it can always read back, so lines of
/// lists' files that would be refused by now mean what they meant then.
///
/// # Errors
/// As [`compile`].
pub fn compile_kept(file_name: &str, source: &str) -> Result<RuleSet, Vec<Finding>> {
    let refuse = |message: String| {
        let mut report = Report::new(file_name, source);
        report.error(0..0, message, None);
        report.finish()
    };
    if source.len() > RULES_FILE_BYTES_MAX {
        let message =
            format!("the file has {} bytes, at most {RULES_FILE_BYTES_MAX} are allowed", source.len());
        return Err(refuse(message));
    }
    std::thread::scope(|scope| {
        let work = || compile_here(file_name, source);
        let thread = std::thread::Builder::new().name("rules".into()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, work).map(|thread| thread.join()) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                Err(refuse("checking the file failed inside the engine; please report this".into()))
            }
            Err(error) => Err(refuse(format!("no thread to check the file on: {error}"))),
        }
    })
}

fn compile_here(file_name: &str, source: &str) -> Result<RuleSet, Vec<Finding>> {
    let mut report = Report::new(file_name, source);
    let mut file = file::read(source, &mut report);
    let modes = trailer::apply(source, &mut file, &mut report);
    let rule_set =
        Compiler { report: &mut report, sets: Sets::default(), used: HashSet::new() }.run(&file, source);
    match rule_set {
        Some(mut rule_set) if !report.has_errors() => {
            (rule_set.warnings, rule_set.modes) = (report.finish(), modes);
            Ok(rule_set)
        }
        _ => Err(report.finish()),
    }
}

struct Compiler<'r, 's> {
    report: &'r mut Report<'s>,
    sets: Sets,
    used: HashSet<String>,
}

impl Compiler<'_, '_> {
    fn run(mut self, file: &File, source: &str) -> Option<RuleSet> {
        let scope = self.scope(file);
        let aggregates = self.aggregates(file);
        self.rule_ids(file);
        let mut conditions: Vec<Option<Bool>> = Vec::new();
        let mut meanings = Vec::new();
        // Beyond the bound, which is an error already, nobody needs to know more.
        for rule in file.rules.iter().take(RULES_MAX) {
            let before = std::mem::take(&mut self.used);
            conditions.push(rule.when.as_ref().and_then(|when| self.condition(when, &scope)));
            meanings.push((meaning(rule, file, &self.used), aggregates_of(file, &self.used)));
            self.used.extend(before);
        }
        self.costs(file, &conditions);
        let rules: Option<Vec<Rule>> = file
            .rules
            .iter()
            .zip(conditions.iter().zip(&meanings))
            .map(|(rule, (condition, meaning))| finished(rule, condition.as_ref()?, *meaning))
            .collect();
        let suppressions = self.suppressions(file);
        self.unreachable(file, &conditions);
        let label_policies = self.policies(file, &scope);
        let tests = cases::check(file, &scope, self.report);
        self.unused(file);
        let (rules, conditions) = (rules?, conditions.into_iter().collect::<Option<Vec<Bool>>>()?);

        let (aggregates, label_policies) = (aggregates?, label_policies?);
        let words = Words::new(&self.sets, &aggregates);
        let explanations = rules
            .iter()
            .zip(conditions.iter().zip(&suppressions))
            .map(|(rule, (condition, suppressions))| words.explain(rule, condition, suppressions))
            .collect();
        let live =
            rules.iter().zip(suppressions).enumerate().filter(|(_, (rule, _))| rule.mode == Mode::Live);
        let restricted = live.filter_map(|(place, (rule, suppressions))| {
            Restricted::new(place as u16, &rule.id, rule.live_percent, suppressions)
        });
        let mut program = Program::new(&self.sets);
        let lists = std::mem::take(&mut self.sets.lists).into_iter().map(settled).collect();
        let conditions = conditions.iter().map(|condition| program.add(condition)).collect();
        let mut precedence: Vec<u16> = (0..rules.len() as u16).collect();
        precedence.sort_by_key(|rule| rules[usize::from(*rule)].then);
        let evaluated = (0..rules.len() as u16).filter(|rule| rules[usize::from(*rule)].mode != Mode::Off);
        Some(RuleSet {
            version: Arc::from(&blake3::hash(source.as_bytes()).to_hex()[..12]),
            source: Arc::from(source),
            aggregates,
            lists,
            label_policies,
            explanations,
            warnings: Vec::new(),
            endings: file.suppressions.iter().filter_map(|found| found.until.clone()).collect(),
            modes: Vec::new(),
            restricted: restricted.collect(),
            precedence,
            program,
            conditions,
            evaluated: evaluated.collect(),
            tests: tests?,
            rules,
        })
    }

    /// The names that rules may use: the catalogue, the file's aggregates and its lists.
    fn scope(&mut self, file: &File) -> Scope {
        let mut scope = Scope::default();
        for name in ["label", "is_fraud"] {
            scope.refused.insert(
                name,
                "a label comes after the decision: count those of before by an aggregate with \
                 `where = \"label == 'fraud'\"`, or let a label policy fill a list, and ask that",
            );
        }
        for (slot, entry) in CATALOG.iter().enumerate() {
            let variable = Variable { slot: slot as Slot, ty: entry.ty, form: form_of(entry) };
            for name in entry.aliases.iter().chain([&entry.name]) {
                scope.variables.insert(name.to_string(), variable);
            }
        }
        if file.aggregates.len() > AGGREGATES_MAX {
            let span = file.aggregates[AGGREGATES_MAX].name.span.clone();
            let message =
                format!("{} aggregates, at most {AGGREGATES_MAX} are allowed", file.aggregates.len());
            self.report.error(span, message, None);
        }
        scope.broken.extend(file.broken.iter().cloned());
        for (index, aggregate) in file.aggregates.iter().enumerate() {
            let ty = match aggregate.measure {
                _ if !self.is_free_name(&aggregate.name, "an aggregate") => None,
                Some(Measure::Count | Measure::Distinct(_)) => Some(Type::Int),
                // An amount in the base currency has no unit of the request's: it is a number of major units.
                Some(_) if aggregate.is_shared() => Some(Type::Float),
                Some(_) => Some(Type::Money),
                None => None,
            };
            let name = aggregate.name.value.clone();
            match ty {
                Some(ty) => {
                    let slot = (CATALOG.len() + index) as Slot;
                    scope.variables.insert(name, Variable { slot, ty, form: Form::Open });
                }
                None if scope.variables.contains_key(&name) => {}
                None => {
                    scope.broken.insert(name);
                }
            }
        }
        for list in &file.lists {
            let name = list.name.value.clone();
            let declared = match &list.values {
                _ if !is_word(&name) => {
                    let help = "small letters, digits and `_`, beginning with a letter";
                    let message = format!("`{name}` cannot be the name of a list");
                    self.report.error(list.name.span.clone(), message, Some(help.into()));
                    None
                }
                Some(values) => Some(declared(&name, values)),
                None => None,
            };
            match declared {
                Some(declared) => {
                    scope.lists.insert(name, self.sets.lists.len());
                    self.sets.lists.push(declared);
                }
                None => {
                    scope.broken.insert(format!("lists.{name}"));
                }
            }
        }
        scope
    }

    fn is_free_name(&mut self, name: &At<String>, what: &str) -> bool {
        /// Words of the language, and the first parts of names with dots.
        const RESERVED: [&str; 10] =
            ["true", "false", "null", "in", "lists", "label", "merchant", "account", "card", "device"];
        let written = name.value.as_str();
        let (message, help) = if !is_word(written) {
            let help = "small letters, digits and `_`, beginning with a letter, such as `card_count_1h`";
            (format!("`{written}` cannot be the name of {what}"), help)
        } else if catalog::lookup(written).is_some() {
            (
                format!("`{written}` is already a field or feature"),
                "choose another name, such as one with `my_`",
            )
        } else if RESERVED.contains(&written) {
            (format!("`{written}` is a reserved word"), "choose another name")
        } else {
            return true;
        };
        self.report.error(name.span.clone(), message, Some(help.into()));
        false
    }

    fn aggregates(&mut self, file: &File) -> Option<Vec<Aggregate>> {
        let mut aggregates = Some(Vec::new());
        for declaration in &file.aggregates {
            let scope = filter::scope(declaration.by, declaration.counts_label);
            // The filters' literal lists are their own, apart from those of the rules.
            let rule_sets = std::mem::take(&mut self.sets);
            let filter = match &declaration.filter {
                Some(filter) => self.filter(filter, &scope).map(Some),
                None => Some(None),
            };
            self.sets = rule_sets;
            let aggregate = (|| {
                Some(Aggregate {
                    name: Arc::from(declaration.name.value.as_str()),
                    by: declaration.by?,
                    window_ms: declaration.window_ms?,
                    measure: declaration.measure?,
                    filter: filter?,
                })
            })();
            match aggregate {
                Some(aggregate) => aggregates.iter_mut().for_each(|all| all.push(aggregate.clone())),
                None => aggregates = None,
            }
        }
        aggregates
    }

    /// Parses and checks what past events must satisfy.
    fn filter(&mut self, filter: &Expression, scope: &Scope) -> Option<Filter> {
        let (condition, parsed, wrong) = self.checked(filter, scope);
        let misplaced = parsed.as_ref().map(filter::misplaced).unwrap_or_default();
        for Misplaced { beside, span, term } in &misplaced {
            // What a term is, of which something else is wrong, is not known yet.
            if wrong.iter().any(|wrong| wrong.start < term.end && term.start < wrong.end) {
                continue;
            }
            let (what, help) = match beside {
                Beside::Amount => ("an amount", filter::AMOUNT_FORM),
                Beside::Label => ("a label", filter::LABEL_FORM),
            };
            let message = format!("a filter cannot ask for {what} in this way");
            self.report.error(filter.in_file(span.clone()), message, Some(help.into()));
        }
        let condition = condition.filter(|_| misplaced.is_empty())?;
        self.costly(filter.span(), program::cost_ns(&condition));
        let compiled = filter::compile(&filter.text, &condition, &self.sets);
        if compiled.amounts().is_some_and(AmountRange::is_empty) {
            self.report.warning(filter.span(), "no amount satisfies this condition", None);
        }
        Some(compiled)
    }

    fn rule_ids(&mut self, file: &File) {
        if file.rules.len() > RULES_MAX {
            let span = file.rules[RULES_MAX].span.clone();
            let message = format!("{} rules, at most {RULES_MAX} are allowed", file.rules.len());
            self.report.error(span, message, None);
        }
        let mut first = HashMap::new();
        for id in file.rules.iter().filter_map(|rule| rule.id.as_ref()) {
            let line = self.report.line_of(id.span.start);
            if let Some(other) = first.get(id.value.as_str()) {
                let message = format!("rule id `{}` is already used on line {other}", id.value);
                self.report.error(id.span.clone(), message, Some("give one of the two another id".into()));
            } else {
                first.insert(id.value.as_str(), line);
            }
        }
    }

    /// Parses and checks one condition.
    fn condition(&mut self, expression: &Expression, scope: &Scope) -> Option<Bool> {
        self.checked(expression, scope).0
    }

    /// A condition where nothing is wrong with it, its tree as far as it could be parsed, and which bytes of it are wrong.
    fn checked(
        &mut self,
        expression: &Expression,
        scope: &Scope,
    ) -> (Option<Bool>, Option<Expr>, Vec<Range<usize>>) {
        let (parsed, errors) = match parse::parse(&expression.text) {
            Ok(parsed) => (Some(parsed), Vec::new()),
            Err(Unparsed { errors, rest }) => (rest, errors),
        };
        let (sets, used) = (&mut self.sets, &mut self.used);
        let mut checker = Checker::new(&expression.text, scope, sets, used);
        let condition = parsed.as_ref().and_then(|parsed| checker.condition(parsed));
        let errors = errors.into_iter().map(|SyntaxError { span, message, help }| (span, message, help));
        let problems =
            checker.problems.into_iter().map(|Problem { span, message, help }| (span, message, help));
        let mut wrong = Vec::new();
        for (span, message, help) in errors.chain(problems) {
            self.report.error(expression.in_file(span.clone()), message, help);
            wrong.push(span);
        }
        if let Some(Bool::Const(always)) = &condition {
            let message =
                if *always { "the condition is always true" } else { "the condition is never true" };
            self.report.warning(expression.span(), message, None);
        }
        (condition, parsed, wrong)
    }

    /// For whom each rule is suppressed, one list a rule.
    fn suppressions(&mut self, file: &File) -> Vec<Vec<Suppression>> {
        let mut by_rule = vec![Vec::new(); file.rules.len()];
        let count: usize = file.suppressions.iter().map(|suppression| suppression.rules.len()).sum();
        if let Some(last) = file.suppressions.last().filter(|_| count > SUPPRESSIONS_MAX) {
            let message = format!("{count} suppressions, at most {SUPPRESSIONS_MAX} are allowed");
            let help = "take out those that have ended, or put the entities on a list";
            self.report.error(last.span.clone(), message, Some(help.into()));
        }
        for suppression in &file.suppressions {
            for id in &suppression.rules {
                let Some(place) = cases::rule_index(id, file, self.report) else { continue };
                if let (Some((entity, id)), Some(At { value: until, .. })) =
                    (&suppression.entity, &suppression.until)
                {
                    let (entity, id) = (*entity, id.as_str().into());
                    by_rule[place].push(Suppression { entity, id, until: *until });
                }
            }
        }
        by_rule
    }

    fn costs(&mut self, file: &File, conditions: &[Option<Bool>]) {
        for (rule, condition) in file.rules.iter().zip(conditions) {
            if let (Some(when), Some(condition)) = (&rule.when, condition) {
                self.costly(when.span(), program::cost_ns(condition));
            }
        }
    }

    fn costly(&mut self, span: Range<usize>, cost_ns: u32) {
        if cost_ns > RULE_COST_MAX_NS {
            let message =
                format!("the condition costs about {cost_ns} ns, at most {RULE_COST_MAX_NS} are allowed");
            self.report.error(span, message, Some("split it, or use a list and `in`".into()));
        }
    }

    /// Warns of rules that can never fire, and of those behind which an earlier one always decides.
    fn unreachable(&mut self, file: &File, conditions: &[Option<Bool>]) {
        if self.report.has_errors() {
            return;
        }
        let counts = file.aggregates.iter().enumerate().filter_map(|(index, aggregate)| {
            let counts = matches!(aggregate.measure, Some(Measure::Count | Measure::Distinct(_)));
            counts.then_some((CATALOG.len() + index) as Slot)
        });
        let counts: Vec<Slot> = counts.chain([slot::AMOUNT]).collect();
        let mut before: Vec<(&RuleDeclaration, Facts)> = Vec::new();
        for (rule, condition) in file.rules.iter().zip(conditions) {
            let (Some(when), Some(condition)) = (&rule.when, condition) else { continue };
            let mut facts = Facts::of(condition, &self.sets);
            counts.iter().for_each(|slot| facts.never_negative(*slot));
            if let Some(slot) = facts.contradiction(&self.sets) {
                let declared = |slot: Slot| {
                    Some(file.aggregates.get(usize::from(slot) - CATALOG.len())?.name.value.as_str())
                };
                let name = match CATALOG.get(usize::from(slot)) {
                    Some(entry) => entry.name,
                    None => declared(slot).unwrap_or("a field"),
                };
                let message = format!("the condition is never true: no value of `{name}` satisfies it");
                self.report.warning(when.span(), message, None);
                continue;
            }
            if rule.mode != Mode::Live {
                continue;
            }
            let (Some(then), Some(id)) = (rule.then, &rule.id) else { continue };
            let covering = before.iter().find(|(other, wider)| {
                other.then.is_some_and(|earlier| earlier <= then) && facts.imply(wider)
            });
            match covering {
                Some((other, _)) if then != Effect::Flag => {
                    let Some(first) = &other.id else { continue };
                    let message = format!(
                        "rule `{}` never decides: wherever it fires, `{}` on line {} fires too and decides before it",
                        id.value,
                        first.value,
                        self.report.line_of(first.span.start)
                    );
                    let help = match other.then == Some(then) {
                        true => "put it before the other one, narrow the other one, or take it out",
                        false => "narrow the other one, or take it out",
                    };
                    self.report.warning(when.span(), message, Some(help.into()));
                }
                // One that decides for some cards alone leaves the others to whoever comes after.
                _ if rule.live_percent.is_some()
                    || file
                        .suppressions
                        .iter()
                        .flat_map(|held| &held.rules)
                        .any(|held| held.value == id.value) => {}
                _ => before.push((rule, facts)),
            }
        }
    }

    fn policies(&mut self, file: &File, scope: &Scope) -> Option<Vec<LabelPolicy>> {
        let mut policies = Some(Vec::new());
        for declared in &file.policies {
            let list = declared.list.as_ref().filter(|list| self.is_list_of_texts(list, scope));
            let policy = (|| {
                Some(LabelPolicy {
                    label: declared.label?,
                    kind: declared.kind.as_deref().map(Box::from),
                    list: list?.value.as_str().into(),
                    add: declared.add?,
                    expires_in_ms: declared.expires_in_ms,
                })
            })();
            match policy {
                Some(policy) => policies.iter_mut().for_each(|all| all.push(policy.clone())),
                None => policies = None,
            }
        }
        if let Some(span) =
            file.policies.get(LABEL_POLICIES_MAX).and_then(|one| Some(&one.list.as_ref()?.span))
        {
            let (count, most) = (file.policies.len(), LABEL_POLICIES_MAX);
            self.report.error(
                span.clone(),
                format!("{count} label policies, at most {most} are allowed"),
                None,
            );
        }
        policies
    }

    /// Whether ids can be put on a list.
    fn is_list_of_texts(&mut self, list: &At<String>, scope: &Scope) -> bool {
        let full_name = format!("lists.{}", list.value);
        let Some(place) = scope.lists.get(&list.value) else {
            if !scope.broken.contains(&full_name) {
                let help = did_you_mean(&list.value, scope.lists.keys().map(String::as_str));
                self.report.error(list.span.clone(), format!("unknown list `{}`", list.value), help);
            }
            return false;
        };
        let kind = self.sets.lists[*place].kind.get_or_insert(ListKind::Texts);
        let is_right = *kind == ListKind::Texts;
        if !is_right {
            let message = format!("list `{}` has whole numbers: no id can be put there", list.value);
            self.report.error(list.span.clone(), message, None);
        }
        self.used.insert(full_name);
        is_right
    }

    fn unused(&mut self, file: &File) {
        // Where conditions could not be read, what they would have used is not known.
        if self.report.has_errors() {
            return;
        }
        for aggregate in &file.aggregates {
            if !self.used.contains(&aggregate.name.value) {
                let message = format!("aggregate `{}` is used by no rule", aggregate.name.value);
                self.report.warning(aggregate.name.span.clone(), message, None);
            }
        }
        for list in &file.lists {
            if !self.used.contains(&format!("lists.{}", list.name.value)) {
                let message = format!("list `{}` is used by no rule", list.name.value);
                self.report.warning(list.name.span.clone(), message, None);
            }
        }
    }
}

/// A list as conditions find it.
fn declared(name: &str, values: &ListValues) -> ListUse {
    let plain = |value: String| ListValue { value, until: FOR_EVER, source: String::new(), line: 0 };
    let (kind, values, from) = match values {
        ListValues::Texts(texts) => (Some(ListKind::Texts), texts.iter().cloned().map(plain).collect(), None),
        ListValues::Ints(ints) => {
            (Some(ListKind::Ints), ints.iter().map(|int| plain(int.to_string())).collect(), None)
        }
        ListValues::None => (None, Vec::new(), None),
        ListValues::File { name, values } => (None, values.clone(), Some(name.clone())),
    };
    ListUse { name: name.to_owned(), kind, values, from, ..ListUse::default() }
}

/// A list as a running engine knows it.
fn settled(list: ListUse) -> DeclaredList {
    let kind = list.kind.unwrap_or(ListKind::Texts);
    let values = list.values.into_iter().filter_map(|listed| {
        let value = kind.admit(&listed.value)?;
        Some((value, FileValue { until: listed.until, source: listed.source.into() }))
    });
    DeclaredList {
        name: list.name.into(),
        kind,
        file: FileValues(values.collect()),
        fields: list.fields,
        set: list.set,
    }
}

/// See [`Rule::meaning`].
fn meaning(rule: &RuleDeclaration, file: &File, used: &HashSet<String>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    let mut say = |text: String| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    let RuleDeclaration { when, then, response_code, mode, live_percent, .. } = rule;
    let when = when.as_ref().map(|when| &when.text);
    say(format!("{when:?} {then:?} {response_code:?} {mode:?} {live_percent:?}"));
    for aggregate in file.aggregates.iter().filter(|aggregate| used.contains(&aggregate.name.value)) {
        let AggregateDeclaration { name, by, window_ms, measure, filter, .. } = aggregate;
        let filter = filter.as_ref().map(|filter| &filter.text);
        say(format!("{} {by:?} {window_ms:?} {measure:?} {filter:?}", name.value));
    }
    for list in file.lists.iter().filter(|list| used.contains(&format!("lists.{}", list.name.value))) {
        say(format!("{} {:?}", list.name.value, list.values));
    }
    let hash = hasher.finalize();
    hash.as_bytes()[..8].iter().fold(0, |meaning, byte| meaning << 8 | u64::from(*byte))
}

/// See [`Rule::aggregates`].
fn aggregates_of(file: &File, used: &HashSet<String>) -> u64 {
    let places = file.aggregates.iter().take(AGGREGATES_MAX).enumerate();
    places
        .filter(|(_, aggregate)| used.contains(&aggregate.name.value))
        .fold(0, |all, (place, _)| all | 1 << place)
}

fn finished(rule: &RuleDeclaration, condition: &Bool, (meaning, aggregates): (u64, u64)) -> Option<Rule> {
    let id = &rule.id.as_ref()?.value;
    let then: Effect = rule.then?;
    let text = rule.text.clone().unwrap_or_else(|| format!("Rule {id}."));
    Some(Rule {
        id: Arc::from(id.as_str()),
        then,
        response_code: rule.response_code.or(then.response_code()),
        reason: Arc::from(rule.reason.as_deref()?),
        text: Arc::from(text),
        mode: rule.mode,
        held: rule.held.clone(),
        live_percent: rule.live_percent,
        protected: rule.protected,
        meaning,
        group: Arc::from(rule.group.as_deref().unwrap_or("other")),
        when: Arc::from(rule.when.as_ref()?.text.as_str()),
        cost_ns: program::cost_ns(condition),
        aggregates,
    })
}

fn form_of(entry: &Entry) -> Form {
    match entry.name {
        "merchant.country" | "account.home_country" => Form::Country,
        "merchant.mcc" => Form::Mcc,
        "currency" => Form::Currency,
        _ if !entry.words.is_empty() => Form::Words(entry.words),
        _ => Form::Open,
    }
}

fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
