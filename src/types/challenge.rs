//! What a challenger, the model that scores in shadow, made of a request.

/// Which of the two models would decline a request by its score.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Declining {
    Neither = 0,
    Champion = 1,
    Challenger = 2,
    Both = 3,
}

impl Declining {
    pub const ALL: [Declining; 4] =
        [Declining::Neither, Declining::Champion, Declining::Challenger, Declining::Both];

    pub fn of(champion: bool, challenger: bool) -> Declining {
        match (champion, challenger) {
            (false, false) => Declining::Neither,
            (true, false) => Declining::Champion,
            (false, true) => Declining::Challenger,
            (true, true) => Declining::Both,
        }
    }

    pub fn from_number(number: u8) -> Option<Declining> {
        Declining::ALL.get(usize::from(number)).copied()
    }

    pub fn champion(self) -> bool {
        matches!(self, Declining::Champion | Declining::Both)
    }

    pub fn challenger(self) -> bool {
        matches!(self, Declining::Challenger | Declining::Both)
    }

    /// In lower case, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Declining::Neither => "neither",
            Declining::Champion => "champion",
            Declining::Challenger => "challenger",
            Declining::Both => "both",
        }
    }
}

/// What the challenger made of a request that both models scored. It decides nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Challenged {
    /// The number under which the journal has its version.
    pub number: u32,
    /// Log-odds of fraud, calibrated where the model was trained here.
    pub margin: f64,
    /// 0 to 999.
    pub score: u16,
    /// By each model's own threshold; without a champion it declines nothing.
    pub declining: Declining,
}
