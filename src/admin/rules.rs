//! The rules file of a running engine: read again when it changes on disk, on SIGHUP and where a call asks for it. With
//! it go the files that its lists name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::watch::{Presence, Standing, State, Watch};
use crate::{
    engine::{Engine, ReloadError, Reloaded, Source},
    observe::ConfiguredFile,
    rules::{self, Finding, ListFile},
};

/// Why there are no rules to be checked.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    #[error("{path} cannot be read: {error}")]
    File { path: PathBuf, error: io::Error },
    /// The file is there and cannot be made whole: it is not UTF-8, or the file of a list is missing or wrong. What else
    /// is wrong is told with it.
    #[error("the rules cannot be read whole:\n{}", .findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    InPart {
        findings: Vec<Finding>,
        /// The file of a list is there and cannot be read, which may be otherwise without a change of it.
        may_pass: bool,
    },
}

impl From<NotRead> for ReloadError {
    fn from(error: NotRead) -> ReloadError {
        match error {
            NotRead::File { path, error } => ReloadError::Unreadable { path, error },
            NotRead::InPart { findings, may_pass: true } => ReloadError::ReadInPart(findings),
            NotRead::InPart { findings, may_pass: false } => ReloadError::Rules(findings),
        }
    }
}

/// The rules that a configuration names: the file at `path` with what stands in the files of its lists, or those that
/// ship.
///
/// # Errors
/// [`NotRead`], where a file cannot be read or is not UTF-8.
pub fn source(path: Option<&Path>) -> Result<Source, NotRead> {
    let name = name_of(path);
    let Some(path) = path else { return Ok(Source { name, text: rules::SHIPPED.to_owned() }) };
    let bytes = fs::read(path).map_err(|error| NotRead::File { path: path.to_owned(), error })?;
    let text = rules::text_of(&name, bytes)
        .map_err(|finding| NotRead::InPart { findings: vec![finding], may_pass: false })?;
    let text = with_lists(path, &name, text)?;
    Ok(Source { name, text })
}

/// What the configured rules are called in messages.
fn name_of(path: Option<&Path>) -> String {
    path.map_or("the shipped rules".to_owned(), |path| path.display().to_string())
}

/// The text of the rules file at `path` with what stands in the files that its lists name, beside it; else everything
/// that is wrong with files and text.
fn with_lists(path: &Path, rules_name: &str, text: String) -> Result<String, NotRead> {
    // One that `Risk.GetRules` gave has them already; whoever saved it may have changed them.
    let checked = rules::without_wrong_lines(&text);
    let (mut whole, mut findings) = checked.unwrap_or_else(|| (text.clone(), Vec::new()));
    let mut may_pass = false;
    for ListFile { name, at } in rules::list_files(&text) {
        // What cannot be a name is told by the check of the rules.
        if name.contains(char::is_control) || rules::has_list_file(&text, &name) {
            continue;
        }
        let file = beside(path, &name);
        let read = fs::read(&file).map_err(|error| {
            // One that is not there is seen when it comes.
            may_pass |= error.kind() != io::ErrorKind::NotFound;
            let message = format!("the list's file `{name}` cannot be read: {error}");
            let help = format!("it is looked for beside the rules, as {}", file.display());
            rules::error_at(rules_name, &text, at, message, help)
        });
        let content = read.and_then(|bytes| rules::text_of(&name, bytes)).unwrap_or_else(|finding| {
            findings.push(finding);
            // An empty one in its place, so that the rest can be checked.
            "value\n".to_owned()
        });
        let appended = rules::append_list_file(&mut whole, &name, &content);
        findings.extend(appended.err().into_iter().flatten());
    }
    if findings.is_empty() {
        return Ok(whole);
    }
    findings.extend(rules::compile(rules_name, &whole).err().into_iter().flatten());
    Err(NotRead::InPart { findings, may_pass })
}

fn lists_beside(path: &Path, text: &str) -> Vec<PathBuf> {
    rules::list_files(text).iter().map(|file| beside(path, &file.name)).collect()
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(name)
}

/// Puts the configured rules in force as they stand now.
///
/// # Errors
/// Where they cannot be read or are not taken; the rules before go on deciding.
pub fn reload_configured(engine: &Engine) -> Result<Reloaded, ReloadError> {
    let path = engine.rules_path();
    engine.reload_rules_read(&name_of(path), || Ok(source(path)?))
}

/// Watches the configured file; `None` where the shipped rules decide, which never change. What the engine was started with
/// is taken for the file's present text.
///
/// # Errors
/// Where no thread can be started.
pub fn watch(engine: &Arc<Engine>) -> io::Result<Option<Watch>> {
    let Some(path) = engine.rules_path().map(Path::to_owned) else { return Ok(None) };
    let mut watcher = Watcher::of(&path, engine);
    Watch::start("rules", engine, move |engine| watcher.look(&path, engine, Instant::now())).map(Some)
}

struct Watcher {
    /// The text that was last read from the file. The same text again is no change, whatever was put in force by a call
    /// in the meantime.
    text: String,
    /// The files that its lists name.
    lists: Vec<PathBuf>,
    standing: Standing,
    presence: Presence,
    /// Of the lists' files.
    lists_presence: Presence,
}

impl Watcher {
    fn of(path: &Path, engine: &Engine) -> Watcher {
        let text = rules::without_modes(&engine.rules().source);
        let lists = lists_beside(path, &text);
        let (presence, lists_presence) =
            (Presence::new(ConfiguredFile::Rules), Presence::new(ConfiguredFile::List));
        Watcher { text, lists, standing: Standing::default(), presence, lists_presence }
    }

    fn look(&mut self, path: &Path, engine: &Engine, now: Instant) {
        self.presence.look(engine.metrics(), [path]);
        self.lists_presence.look(engine.metrics(), self.lists.iter().map(PathBuf::as_path));
        if self.standing.is_due(State::of(path, &self.lists), now) {
            self.take(path, engine, now);
        }
    }

    /// Reads the file and has it put in force. What comes of it is counted and logged there.
    fn take(&mut self, path: &Path, engine: &Engine, now: Instant) {
        // The lists that the file names by now are looked at from now on, also where it is refused: whoever mends one of
        // them has mended the rules.
        let lists = fs::read_to_string(path).map_or_else(|_| Vec::new(), |text| lists_beside(path, &text));
        if lists != self.lists {
            self.lists = lists;
            if !self.standing.widen(State::of(path, &self.lists)) {
                return;
            }
        }
        let text = source(Some(path));
        // A write that began after the last look is waited for like any other.
        if !self.standing.is_still(&State::of(path, &self.lists)) {
            return;
        }
        if text.as_ref().is_ok_and(|source| source.text == self.text) {
            self.standing.was_read();
            return;
        }
        match reload_configured(engine) {
            Err(error) if !error.is_refusal() => self.standing.failed(now),
            Ok(_) | Err(_) => {
                self.standing.was_read();
                self.text = text.map_or_else(|_| String::new(), |source| source.text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::Config,
        engine::{recover::Settings, time::TimeSource},
        observe::Metrics,
    };

    #[test]
    fn a_list_s_file_is_found_beside_the_rules_and_named_where_it_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let rules = directory.path().join("rules.toml");
        fs::write(&rules, "version = 1\n[lists.a]\nfile = 'lists/a.csv'\n[lists.b]\nfile = 'lists/a.csv'\n")
            .unwrap();
        let told = || match source(Some(&rules)).unwrap_err() {
            NotRead::InPart { findings, .. } => findings,
            error => panic!("{error}"),
        };
        let missing = told();
        assert_eq!(missing.len(), 1, "the file is named by two lists, and told of once: {missing:?}");
        let shown = missing[0].to_string();
        for expected in [
            "rules.toml:3:8: error: the list's file `lists/a.csv` cannot be read: No such file",
            "\n  3 | file = 'lists/a.csv'\n    |        ^^^^^^^^^^^^^\n",
            "it is looked for beside the rules, as ",
        ] {
            assert!(shown.contains(expected), "{shown}");
        }
        let list = directory.path().join("lists/a.csv");
        fs::create_dir(directory.path().join("lists")).unwrap();
        fs::write(&list, "\u{feff}value\r\nM-1\r\n").unwrap();
        let text = source(Some(&rules)).unwrap().text;
        assert!(text.ends_with("file = 'lists/a.csv'\n#@ list lists/a.csv\n#| value\n#| M-1\n"), "{text}");
        assert_eq!(rules::compile("rules.toml", &text).unwrap().lists.len(), 2);
        fs::write(&list, "value\nM-\u{1b}1\n").unwrap();
        assert!(
            told()[0]
                .to_string()
                .starts_with("lists/a.csv:2:3: error: a control character cannot stand in a list"),
            "{:?}",
            told()
        );
    }

    #[test]
    fn a_rules_file_that_was_saved_with_its_lists_lines_is_not_read_with_a_quote_that_swallows_some() {
        let directory = tempfile::tempdir().unwrap();
        let rules = directory.path().join("rules.toml");
        let text = "version = 1\n[lists.a]\nfile = 'a.csv'\n[lists.b]\nfile = 'b.csv'\n\
                    #@ list a.csv\n#| value\n#| M-1\n#| \"M-2\n#| M-3\n#| M-4\n";
        fs::write(&rules, text).unwrap();
        fs::write(directory.path().join("b.csv"), "value\nM-5\n\"M-6\n").unwrap();
        let NotRead::InPart { findings, may_pass: false } = source(Some(&rules)).unwrap_err() else {
            panic!()
        };
        let places = findings.iter().map(|finding| (&*finding.file, finding.line, finding.column));
        let places = places.collect::<Vec<_>>();
        assert_eq!(places, [("a.csv", 3, 1), ("b.csv", 3, 1)], "{findings:?}");
        // The call of `rules check` and `rules test` ends with 1, as where a rule is wrong.
        let check = crate::cli::rules::check(&rules, crate::types::time::Timestamp(0), false);
        assert_eq!(format!("{check:?}"), format!("{:?}", std::process::ExitCode::from(1)));
        fs::write(&rules, text.replace("\"M-2", "\"M-2\"")).unwrap();
        fs::write(directory.path().join("b.csv"), "value\nM-5\n").unwrap();
        let source = source(Some(&rules)).unwrap();
        assert_eq!(rules::compile(&source.name, &source.text).unwrap().lists[0].file.len(), 4);
    }

    fn engine_of(directory: &Path, rules: &Path) -> Arc<Engine> {
        let mut config = Config::default();
        config.decide.rules = Some(rules.to_owned());
        config.journal.segment_bytes = 1024 * 1024;
        let settings = Settings {
            data_dir: directory.join("data"),
            rules: source(Some(rules)).unwrap(),
            model: None,
            challenger: None,
            config,
            time: TimeSource::Transactions,
            metrics: Metrics::new(1),
        };
        Engine::open(settings).unwrap().0
    }

    fn shown(engine: &Engine, series: &str) -> String {
        let text = engine.metrics().render();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        values.next().unwrap_or_else(|| panic!("no {series} in\n{text}")).to_owned()
    }

    #[test]
    fn rules_whose_files_are_taken_away_go_on_and_the_files_are_missed_until_they_are_back() {
        let directory = tempfile::tempdir().unwrap();
        let (rules, list) = (directory.path().join("rules.toml"), directory.path().join("a.csv"));
        fs::write(&rules, "version = 1\n[lists.a]\nfile = 'a.csv'\n").unwrap();
        fs::write(&list, "value\nM-1\n").unwrap();
        let engine = engine_of(directory.path(), &rules);
        let version = engine.rules().version.clone();
        let (mut watcher, mut now) = (Watcher::of(&rules, &engine), Instant::now());
        let mut missing = || {
            for _ in 0..20 {
                watcher.look(&rules, &engine, now);
                now += Duration::from_secs(1);
            }
            assert_eq!(engine.rules().version, version);
            let of = |file| shown(&engine, &format!("saker_configured_files_missing{{file=\"{file}\"}}"));
            (of("rules"), of("list"))
        };
        let figures = |rules: &str, list: &str| (rules.to_owned(), list.to_owned());
        assert_eq!(missing(), figures("0", "0"));
        let away = directory.path().join("away.toml");
        fs::rename(&rules, &away).unwrap();
        assert_eq!(missing(), figures("1", "0"));
        assert_eq!(
            shown(&engine, "saker_rules_reloads_total{result=\"failed\"}"),
            "0",
            "nobody asked for it"
        );
        fs::rename(&away, &rules).unwrap();
        assert_eq!(missing(), figures("0", "0"));
        fs::remove_file(&list).unwrap();
        assert_eq!(missing(), figures("0", "1"));
        assert_eq!(shown(&engine, "saker_rules_reloads_total{result=\"refused\"}"), "1");
        fs::write(&list, "value\nM-1\n").unwrap();
        assert_eq!(missing(), figures("0", "0"));
        engine.close().unwrap();
    }

    #[test]
    fn a_list_s_file_that_is_wrong_is_refused_once_and_taken_once_it_is_mended() {
        let directory = tempfile::tempdir().unwrap();
        let (rules, list) = (directory.path().join("rules.toml"), directory.path().join("a.csv"));
        fs::write(&rules, "version = 1\n").unwrap();
        let engine = engine_of(directory.path(), &rules);
        let (mut watcher, mut now) = (Watcher::of(&rules, &engine), Instant::now());
        // As long as a file that may be read later is tried again several times.
        let mut look_for_long = || {
            for _ in 0..20 {
                watcher.look(&rules, &engine, now);
                now += Duration::from_secs(1);
            }
            let counted =
                |result: &str| shown(&engine, &format!("saker_rules_reloads_total{{result=\"{result}\"}}"));
            (counted("refused"), counted("failed"), engine.rules().lists.len())
        };
        let told = |refused: &str, lists: usize| (refused.to_owned(), "0".to_owned(), lists);
        // Not there, a quote that is not closed, no text: each is told of once, also one that no rules before have named.
        fs::write(&rules, "version = 1\n[lists.a]\nfile = 'a.csv'\n").unwrap();
        assert_eq!(look_for_long(), told("1", 0));
        fs::write(&list, "value\n\"M-1\n").unwrap();
        assert_eq!(look_for_long(), told("2", 0));
        fs::write(&list, b"value\nM-\xe9\n").unwrap();
        assert_eq!(look_for_long(), told("3", 0));
        fs::write(&list, "value\nM-1\n").unwrap();
        assert_eq!(look_for_long(), told("3", 1));
        fs::write(&list, "value\nM-1\n\"M-2\n").unwrap();
        assert_eq!(look_for_long(), told("4", 1));
        engine.close().unwrap();
    }

    #[test]
    fn what_is_not_utf_8_is_told_with_byte_and_line_and_hides_nothing_else_that_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let rules = directory.path().join("rules.toml");
        let told = |content: &[u8]| {
            fs::write(&rules, content).unwrap();
            match source(Some(&rules)).unwrap_err() {
                NotRead::InPart { findings, .. } => {
                    findings.iter().map(ToString::to_string).collect::<Vec<_>>()
                }
                error => panic!("{error}"),
            }
        };
        let latin = told(b"version = 1\r\n# caf\xe9 \xc3\xa9\r\n");
        assert_eq!(latin.len(), 1);
        let expected = "rules.toml:2:6: error: the file is not UTF-8: byte 18, 0xe9, begins no character\n  \
                        2 | # caf\u{fffd} \u{e9}\n    |      ^\n";
        assert!(latin[0].contains(expected), "{latin:?}");
        let marked = told(b"\xef\xbb\xbf# \xff");
        assert!(
            marked[0].contains("rules.toml:1:3: error: the file is not UTF-8: byte 5, 0xff"),
            "{marked:?}"
        );
        let wide = told(b"\xff\xfev\0");
        assert!(wide[0].contains("rules.toml:1:1: error: the file is not UTF-8: byte 0, 0xff"), "{wide:?}");

        // A list that is not, one that is not there, and a rule that is wrong besides.
        fs::write(directory.path().join("b.csv"), b"value\nM-1\nM-\xe9\n").unwrap();
        let all = told(
            b"version = 1\n[lists.a]\nfile = 'a.csv'\n[lists.b]\nfile = 'b.csv'\n[[rules]]\nid = 'r'\n\
              when = 'merchant.id in lists.b && amuont > 5'\nthen = 'flag'\nreason = 'R'\n",
        );
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[0].contains("rules.toml:3:8: error: the list's file `a.csv` cannot be read"), "{all:?}");
        assert!(all[1].starts_with("b.csv:3:3: error: the file is not UTF-8: byte 12, 0xe9"), "{all:?}");
        assert!(all[2].contains("rules.toml:8:") && all[2].contains("`amuont`"), "{all:?}");
    }
}
