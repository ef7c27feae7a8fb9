//! The outcome of a replay as one JSON document: everything that is counted.

use serde_json::{Map, Value, json};

use super::{
    super::{
        episodes::EPISODE_GAP_DAYS,
        slices::Band,
        voices::{Overlap, Voice},
        volume::{Slice, Volume, Yield, share},
        weights::{Weighed, Weight},
    },
    Report,
};
use crate::types::money::Currency;

impl Report<'_> {
    pub(in super::super) fn json(&self) -> Value {
        let Report { args, origin, backtest, figures, took, .. } = self;
        let decisions = figures
            .decisions
            .iter()
            .map(|(decision, volume)| with(volume_json(volume), "decision", decision.name()));
        let reasons = figures.reasons.iter().map(|(code, reason)| {
            let mut value = with(self.yield_json(&reason.decided), "reason", code.as_str());
            value["alone"] = reason.is_suspicion.then(|| yield_json(&reason.alone)).into();
            value
        });
        let rules = backtest.rules().rules.iter().zip(figures.voices.rules()).enumerate();
        let rules = rules.map(|(place, (rule, voice))| {
            let mut value = with(self.yield_json(&voice.fired), "rule", &*rule.id);
            value["mode"] = rule.mode.name().into();
            value["then"] = rule.then.name().into();
            value["reason"] = (*rule.reason).into();
            let alone = |voice: &Voice| rule.then.response_code().map(|_| yield_json(&voice.alone));
            value["alone"] = alone(voice).into();
            value["held_back"] = figures
                .voices
                .held_back(place)
                .map(|voice| {
                    let mut value = self.yield_json(&voice.fired);
                    value["alone"] = alone(voice).into();
                    value
                })
                .into();
            value
        });
        let model = backtest.model().map(|model| {
            let voice = figures.voices.model();
            let mut value = self.yield_json(&voice.fired);
            value["alone"] = yield_json(&voice.alone);
            value["decline_threshold"] = model.decline_threshold().into();
            value
        });
        let inputs = self
            .inputs
            .iter()
            .map(|input| json!({ "option": input.option, "name": input.name, "blake3": input.fingerprint }));
        let thresholds = figures
            .thresholds
            .counts()
            .map(|(score, fraud, genuine)| json!({ "score": score, "fraud": fraud, "genuine": genuine }));
        let rule_names = self.voice_names();
        let (first, last) = origin.period.unzip();
        let file = args.transactions.as_ref().map(|path| path.display().to_string());
        json!({
            "transactions_file": file,
            "journal": args.journal.as_ref().map(|path| path.display().to_string()),
            "inputs": inputs.collect::<Vec<_>>(),
            "saker_version": env!("CARGO_PKG_VERSION"),
            "rows": origin.rows,
            "rows_skipped": origin.skipped.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "rows_sorted": origin.is_sorted,
            "from": first.map(|time| time.to_string()),
            "to": last.map(|time| time.to_string()),
            "seconds": took.as_secs_f64(),
            "transactions_per_second": self.per_second(),
            "rules_version": &*backtest.rules().version,
            "model_version": backtest.model().map(|model| model.version().to_string()).unwrap_or_default(),
            "observed": args.observe,
            "label_delay_days": args.label_delay,
            "default_limit": args.default_limit,
            "limit": args.limit,
            "decided": figures.decided(),
            "unlabelled": figures.unlabelled(),
            "repeated": figures.repeated,
            "duplicates": figures.duplicates,
            "undecided": figures.undecided,
            "undecided_why": figures.undecided_why,
            "whole": slice_json(&figures.whole),
            "decisions": decisions.collect::<Vec<_>>(),
            "reasons": reasons.collect::<Vec<_>>(),
            "reason_overlap": overlap_json(&figures.voices.reason_overlap, &figures.voices.reason_codes),
            "rules": rules.collect::<Vec<_>>(),
            "model": model,
            "rule_overlap": overlap_json(&figures.voices.overlap, &rule_names),
            "by": self.slices_json(),
            "accounts": self.accounts_json(),
            "model_quality": figures.quality(),
            "model_weights": self.weights.map(weights_json),
            "scores": thresholds.collect::<Vec<_>>(),
            "recorded": self.recorded.map(super::Recorded::json),
            "against": self.against.map(super::Against::json),
            "notes": origin.notes,
        })
    }

    fn slices_json(&self) -> Value {
        let slices = &self.figures.slices;
        let named = |(name, slice): (Value, &Slice)| with(slice_json(slice), "name", name);
        let mccs =
            slices.mccs().into_iter().map(|(mcc, slice)| (mcc.map(|mcc| format!("{mcc:04}")).into(), slice));
        let countries = slices.countries().into_iter();
        let countries = countries
            .map(|(country, slice)| (country.map(|country| country.as_str().to_owned()).into(), slice));
        let bands = slices.bands().into_iter().map(|(band, slice)| {
            let mut value = with(slice_json(slice), "name", band.map(Band::name));
            value["currency"] = band.map(|band| band.currency.alpha()).into();
            value["from_minor"] = band.map(Band::low_minor).into();
            value["below_minor"] = band.and_then(Band::high_minor).into();
            value
        });
        let days = slices.days().into_iter().map(|(day, slice)| (day.to_string().into(), slice));
        let hours = slices.hours().iter().enumerate().map(|(hour, slice)| (hour.into(), slice));
        json!({
            "mcc": mccs.map(named).collect::<Vec<_>>(),
            "country": countries.map(named).collect::<Vec<_>>(),
            "amount_band": bands.collect::<Vec<_>>(),
            "day_utc": days.map(named).collect::<Vec<_>>(),
            "hour_utc": hours.map(named).collect::<Vec<_>>(),
        })
    }

    /// What fraud did to accounts; absent without labels.
    fn accounts_json(&self) -> Option<Value> {
        let (episodes, whole) = (&self.figures.episodes, &self.figures.whole);
        (whole.labelled() > 0).then(|| {
            json!({
                "with_fraud": episodes.accounts(),
                "caught": episodes.accounts_caught(),
                "account_detection_rate": episodes.account_detection_rate(),
                "value_detection_rate": shares_json(&whole.caught.share_of(&whole.fraud)),
                "wronged": episodes.accounts_wronged(),
                "false_positives_per_caught_account":
                    episodes.false_positives_per_caught_account(whole.false_positives),
                "episode_gap_days": EPISODE_GAP_DAYS,
                "episodes": episodes.episodes,
                "episodes_caught": episodes.episodes_caught,
                "lost_before_first_decline": volume_json(&episodes.lost),
                "saved_from_first_decline": volume_json(&episodes.saved),
                "step_ups_before_first_decline": volume_json(&episodes.step_ups),
                "declined_for_other_reasons_before": volume_json(&episodes.stopped_otherwise),
                "saved_share": shares_json(&episodes.saved.share_of(&whole.fraud)),
            })
        })
    }

    fn yield_json(&self, brought: &Yield) -> Value {
        with(yield_json(brought), "recall", share(brought.fraud.count, self.figures.whole.fraud.count))
    }
}

fn with(mut value: Value, name: &str, field: impl Into<Value>) -> Value {
    value[name] = field.into();
    value
}

pub(in super::super) fn yield_json(brought: &Yield) -> Value {
    let mut value = volume_json(&brought.all);
    value["fraud"] = volume_json(&brought.fraud);
    value["genuine"] = brought.genuine.into();
    value["precision"] = brought.precision().into();
    value
}

pub(in super::super) fn slice_json(slice: &Slice) -> Value {
    let mut value = volume_json(&slice.all);
    value["declined"] = volume_json(&slice.declined);
    value["step_ups"] = volume_json(&slice.step_ups);
    value["against"] = volume_json(&slice.against());
    value["suspected"] = slice.suspected.into();
    value["fraud"] = volume_json(&slice.fraud);
    value["caught"] = volume_json(&slice.caught);
    value["genuine"] = slice.genuine.into();
    value["false_positives"] = slice.false_positives.into();
    value["precision"] = slice.precision().into();
    value["recall"] = slice.recall().into();
    value["false_positive_rate"] = slice.false_positive_rate().into();
    value
}

fn volume_json(volume: &Volume) -> Value {
    let minor: Map<String, Value> = volume
        .minor
        .iter()
        .map(|(currency, minor)| {
            (currency.alpha().to_owned(), i64::try_from(*minor).unwrap_or(i64::MAX).into())
        })
        .collect();
    json!({ "count": volume.count, "minor": minor })
}

fn shares_json(shares: &[(Currency, f64)]) -> Value {
    shares.iter().map(|(currency, share)| (currency.alpha().to_owned(), Value::from(*share))).collect()
}

fn weights_json(weights: &Weighed) -> Value {
    let Weighed { sampled, declined, heaviest } = weights;
    let features = heaviest.iter().map(|Weight { feature, absolute, towards_fraud }| {
        json!({ "feature": feature.name, "mean_absolute": absolute, "mean": towards_fraud })
    });
    json!({ "rows": sampled, "of": declined, "features": features.collect::<Vec<_>>() })
}

fn overlap_json(overlap: &Overlap, names: &[String]) -> Value {
    let pairs = overlap
        .pairs()
        .into_iter()
        .map(|(a, b, pair)| json!({ "a": names[a], "b": names[b], "both": pair.both, "fraud": pair.fraud }));
    pairs.collect()
}
