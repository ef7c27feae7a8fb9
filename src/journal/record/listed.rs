//! The records of lists and labels, kinds 8 and 9.

use super::{Counted, Labelled, Listed, Read, Reader, VERSION, VERSION_COUNTED, Writer};
use crate::{
    limits::{LABEL_POLICIES_MAX, LIST_UPDATE_VALUES_MAX},
    types::{
        codes::{Channel, Decision, Kind},
        ids::Id,
        lists::{FraudLabel, Labelling, ListEntry, ListKind, ListUpdate, Listing, TransactionIds},
    },
};

impl Listed {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer(out);
        w.start(8);
        w.u(u64::from(self.client));
        w.i(self.time.0);
        w.text(self.update.key.as_str());
        w.text(&self.update.list);
        w.u8(self.kind as u8);
        w.versions(self.versions);
        w.u(self.update.add.len() as u64);
        self.update.add.iter().for_each(|entry| w.entry(entry));
        w.u(self.update.remove.len() as u64);
        for (value, kept_out) in self.update.remove.iter().zip(&self.kept_out) {
            w.text(value);
            w.u8(u8::from(*kept_out));
        }
        w.u(self.values);
    }
}

impl Labelled {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Labelling { key, transaction, label, kind, source, occurred_at } = &self.labelling;
        let mut w = Writer(out);
        w.start_as(9, if self.counted.is_some() { VERSION_COUNTED } else { VERSION });
        w.u(u64::from(self.client));
        w.i(self.time.0);
        w.text(key.as_str());
        w.text(transaction.as_str());
        w.u8(label.number());
        w.text(kind);
        w.text(source);
        w.optional(*occurred_at, |w, time| w.i(time.0));
        w.u(self.of);
        w.optional(self.account, |w, account| w.text(account.as_str()));
        w.u(self.before);
        let TransactionIds { card, merchant, terminal, device, ip } = &self.ids;
        for id in [card, merchant, terminal, device, ip] {
            w.optional(id.as_ref(), |w, id| w.text(id.as_str()));
        }
        w.versions(self.versions);
        w.u(self.listed.len() as u64);
        for listing in &self.listed {
            w.text(&listing.list);
            w.text(&listing.entry.value);
            w.optional(listing.entry.expires_at, |w, time| w.i(time.0));
        }
        w.outcome(&self.outcome);
        if let Some(counted) = &self.counted {
            w.counted(counted);
        }
    }
}

impl Writer<'_> {
    fn entry(&mut self, entry: &ListEntry) {
        self.text(&entry.value);
        self.optional(entry.expires_at, |w, time| w.i(time.0));
        self.text(&entry.source);
    }

    fn counted(&mut self, counted: &Counted) {
        let Counted { time, kind, decision, declined_for_credit, card, billed, channel, mcc, country, said } =
            *counted;
        self.i(time.0);
        self.u8(kind.number());
        self.u8(decision.number());
        self.u8(u8::from(declined_for_credit));
        self.u8(card);
        self.optional(billed, Writer::money);
        self.optional(channel, |w, channel| w.u8(channel.number()));
        self.optional(mcc, |w, mcc| w.u(u64::from(mcc)));
        self.optional(country, |w, country| w.0.extend_from_slice(country.as_str().as_bytes()));
        self.u8(said);
    }
}

impl Reader<'_> {
    pub(super) fn listed(&mut self) -> Read<Listed> {
        let (client, time, key) = (self.small()?, self.time()?, self.key()?);
        let list = self.text()?.into();
        let kind = self.code(ListKind::from_number)?;
        let versions = self.versions()?;
        let mut add = Vec::new();
        for _ in 0..self.count(LIST_UPDATE_VALUES_MAX)? {
            let (value, expires_at) = (self.text()?.into(), self.optional(Reader::time)?);
            add.push(ListEntry { value, expires_at, source: self.text()?.into() });
        }
        let (mut remove, mut kept_out) = (Vec::new(), Vec::new());
        for _ in 0..self.count(LIST_UPDATE_VALUES_MAX)? {
            remove.push(self.text()?.into());
            kept_out.push(self.truth()?);
        }
        let update = ListUpdate { key, list, add, remove };
        Ok(Listed { client, time, update, kind, versions, kept_out, values: self.u()? })
    }

    pub(super) fn labelled(&mut self, position: u64, is_counted: bool) -> Read<Labelled> {
        let (client, time) = (self.small()?, self.time()?);
        let labelling = Labelling {
            key: self.key()?,
            transaction: self.key()?,
            label: self.code(FraudLabel::from_number)?,
            kind: self.text()?.into(),
            source: self.text()?.into(),
            occurred_at: self.optional(Reader::time)?,
        };
        let of = self.u()?;
        let account = self.optional(Reader::account)?;
        let before = self.u()?;
        let mut id = || -> Read<Option<Id>> { self.optional(Reader::id) };
        let (card, merchant, terminal, device, ip) = (id()?, id()?, id()?, id()?, id()?);
        let ids = TransactionIds { card, merchant, terminal, device, ip };
        let versions = self.versions()?;
        let mut listed = Vec::new();
        for _ in 0..self.count(LABEL_POLICIES_MAX)? {
            let (list, value) = (self.text()?.into(), self.text()?.into());
            let expires_at = self.optional(Reader::time)?;
            // Whose label it was stands above.
            let source = labelling.source.clone();
            listed.push(Listing { list, entry: ListEntry { value, expires_at, source } });
        }
        let outcome = self.outcome(position)?;
        let counted = if is_counted { Some(self.counted()?) } else { None };
        Ok(Labelled { client, time, labelling, of, account, before, ids, versions, listed, outcome, counted })
    }

    fn counted(&mut self) -> Read<Counted> {
        Ok(Counted {
            time: self.time()?,
            kind: self.code(Kind::from_number)?,
            decision: self.code(Decision::from_number)?,
            declined_for_credit: self.truth()?,
            card: self.u8()?,
            billed: self.optional(Reader::money)?,
            channel: self.optional(|r| r.code(Channel::from_number))?,
            mcc: self.optional(Reader::small)?,
            country: self.optional(Reader::country)?,
            said: self.u8()?,
        })
    }

    fn truth(&mut self) -> Read<bool> {
        self.code(|number| [false, true].get(usize::from(number)).copied())
    }

    fn count(&mut self, most: usize) -> Read<u64> {
        let count = self.u()?;
        if count > most as u64 { Err("too many values") } else { Ok(count) }
    }
}
