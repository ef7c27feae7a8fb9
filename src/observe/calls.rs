//! The calls of the contract by the name they are counted under, and how a call ended. `wire` maps its paths to these
//! names and has a test that none of the contract's is missing here.

/// Declares the calls with their label.
macro_rules! calls {
    ($($call:ident = $name:literal),* $(,)?) => {
        /// One call of the contract, or [`Call::Other`].
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Call {
            $($call),*
        }

        impl Call {
            pub const ALL: &[Call] = &[$(Call::$call),*];

            /// The label's value.
            pub fn name(self) -> &'static str {
                match self {
                    $(Call::$call => $name),*
                }
            }
        }
    };
}

calls! {
    Authorise = "authorise",
    AuthoriseBatch = "authorise_batch",
    AuthoriseStream = "authorise_stream",
    Reverse = "reverse",
    Clear = "clear",
    Advise = "advise",
    Refund = "refund",
    UpsertAccounts = "upsert_accounts",
    GetAccount = "get_account",
    SetAccountStatus = "set_account_status",
    SetCardStatus = "set_card_status",
    SetCreditLimit = "set_credit_limit",
    PostPayment = "post_payment",
    ListHolds = "list_holds",
    GetDecision = "get_decision",
    ListDecisions = "list_decisions",
    WatchDecisions = "watch_decisions",
    GetRules = "get_rules",
    ReloadRules = "reload_rules",
    SetRuleMode = "set_rule_mode",
    UpdateList = "update_list",
    GetList = "get_list",
    LabelTransaction = "label_transaction",
    GetModel = "get_model",
    ReloadModel = "reload_model",
    // Health, reflection and whatever no service has.
    Other = "other",
}

impl Call {
    /// Whether its duration means something: one request in, one answer out. A stream lasts as long as its client
    /// likes.
    pub fn is_timed(self) -> bool {
        !matches!(self, Call::AuthoriseStream | Call::UpsertAccounts | Call::WatchDecisions | Call::Other)
    }
}

/// How a call ended, by who would have to do something about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum CallResult {
    /// Answered; a decline is an answer.
    Ok,
    /// The client asked for what cannot be: bad fields, an unknown account, a call that is not there.
    ClientError,
    /// The engine could not, or not in time.
    ServerError,
}

impl CallResult {
    pub const ALL: [CallResult; 3] = [CallResult::Ok, CallResult::ClientError, CallResult::ServerError];

    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            CallResult::Ok => "ok",
            CallResult::ClientError => "client_error",
            CallResult::ServerError => "server_error",
        }
    }
}
