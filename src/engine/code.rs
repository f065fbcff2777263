//! Why usage is refused, by the names that writers know.

macro_rules! codes {
    ($($variant:ident $name:literal $doc:literal),* $(,)?) => {
        /// The names of errors on the socket.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $doc] $variant,)*
        }

        impl Code {
            /// Every one.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// As it stands in an answer.
            pub fn name(self) -> &'static str {
                match self {
                    $(Code::$variant => $name,)*
                }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" "Not what the protocol says.",
    UnknownDimension "unknown_dimension" "No such dimension.",
    BadQuantity "bad_quantity" "Not a quantity, or none where one is needed.",
    BadTags "bad_tags" "Tags that AWS would not take.",
    BadKey "bad_key" "A key that is empty or too long.",
    KeyConflict "key_conflict" "The key is known with other content.",
    TimeOutOfRange "time_out_of_range" "Too old or ahead.",
    HourClosed "hour_closed" "The hour is sealed and the measure cannot be moved.",
    BadCustomer "bad_customer" "A customer where none is taken.",
    NotAllowed "not_allowed" "This user may not.",
    TooLarge "too_large" "A line that is too long.",
    DiskFull "disk_full" "No room; nothing was recorded.",
    Overloaded "overloaded" "Too much at once; nothing was recorded.",
    NotDurable "not_durable" "The disk failed; whether it was recorded is unknown.",
    NotReady "not_ready" "Not yet; nothing was recorded.",
    ShuttingDown "shutting_down" "No more; nothing was recorded.",
}

impl Code {
    /// Whether the same may work later, and if so whether it was recorded.
    pub fn retryable(self) -> Option<&'static str> {
        match self {
            Code::DiskFull | Code::Overloaded | Code::NotReady | Code::ShuttingDown => Some("no"),
            Code::NotDurable => Some("unknown"),
            _ => None,
        }
    }
}
