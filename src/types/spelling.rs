//! What somebody probably meant who wrote a name that there is not.

/// Longest word that is looked at for a slip of the pen.
const WORD_BYTES_MAX: usize = 128;

/// The candidate that was probably meant, as a hint.
pub fn did_you_mean<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(written, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// The candidate that was probably meant: near in spelling, or the last part of a longer name.
pub fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if written.len() > WORD_BYTES_MAX {
        return None;
    }
    let lower = written.to_ascii_lowercase();
    let allowed = (written.chars().count() / 3).max(1);
    let rank = |candidate: &str| {
        let distance = strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase());
        let is_last_part = || candidate.strip_suffix(&lower).is_some_and(|rest| rest.ends_with(['.', '_']));
        // A longer name that ends so comes after every name that is only misspelt.
        if distance <= allowed { Some(distance) } else { is_last_part().then_some(usize::MAX) }
    };
    let ranked = candidates.into_iter().filter_map(|candidate| Some((rank(candidate)?, candidate)));
    ranked.min().map(|(_, candidate)| candidate)
}
