//! The time that a report is about.

use crate::hour::{Hour, Timestamp};

const HOURS_OF_DAY: u32 = 24;

/// A UTC calendar month, or a year of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// As given: `2026-11`, or `2026`.
    pub name: String,
    /// Its first hour.
    pub first: Hour,
    /// The first hour after it.
    pub end: Hour,
}

impl Span {
    /// Reads `2026-11` or `2026`. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Span, String> {
        let refused = || format!("{text:?} is neither a month (2026-11) nor a year (2026), from 1970 to 2105");
        let digits = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_digit());
        let (year, month) = text.split_once('-').map_or((text, None), |(year, month)| (year, Some(month)));
        if !digits(year, 4) || month.is_some_and(|month| !digits(month, 2)) {
            return Err(refused());
        }
        let first = Timestamp::parse(&format!("{year}-{}-01T00:00:00Z", month.unwrap_or("01"))).ok_or_else(refused)?;
        // Hours are counted in 32 bits from 1970, records end in 2105.
        if !("1970".."2106").contains(&year) {
            return Err(refused());
        }
        let first = first.hour();
        let months = if month.is_some() { 1 } else { 12 };
        let end = (0..months).fold(first, |hour, _| hour.next_month());
        Ok(Span { name: text.to_owned(), first, end })
    }

    /// Whether an hour lies in it.
    pub fn contains(&self, hour: Hour) -> bool {
        (self.first..self.end).contains(&hour)
    }

    /// Its days, each by its first hour.
    pub fn days(&self) -> impl Iterator<Item = Hour> + use<> {
        (self.first.index()..self.end.index()).step_by(HOURS_OF_DAY as usize).map(Hour::from_index)
    }

    /// The first hour of the month before it.
    pub fn month_before(&self) -> Hour {
        self.first.previous().month()
    }

    /// In words.
    pub fn words(&self) -> String {
        const MONTHS: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        match self.name.split_once('-') {
            Some((year, month)) => {
                let name = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
                format!("{} {year}", name.unwrap_or(&month))
            }
            None => self.name.clone(),
        }
    }
}

/// The first hour of the UTC day in which `hour` lies.
pub fn day(hour: Hour) -> Hour {
    Hour::from_index(hour.index() - hour.index() % HOURS_OF_DAY)
}

/// A day as it is written: `2026-11-21`.
pub fn date(hour: Hour) -> String {
    hour.to_string().chars().take("2026-11-21".len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_years_end_where_the_calendar_says() {
        let hours =
            |text| Span::parse(text).map(|span| (span.first.to_string(), span.end.index() - span.first.index()));
        assert_eq!(hours("2026-11"), Ok(("2026-11-01T00:00:00Z".into(), 720)));
        assert_eq!(hours("2028-02"), Ok(("2028-02-01T00:00:00Z".into(), 29 * 24)));
        assert_eq!(hours("2026"), Ok(("2026-01-01T00:00:00Z".into(), 8760)));
        assert_eq!(hours("2026-12").unwrap().1, 31 * 24);
        for wrong in ["", "11", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "2200-01", "1969-12", "20é6"] {
            assert!(Span::parse(wrong).is_err(), "{wrong}");
        }
        let span = Span::parse("2026-01").unwrap();
        assert_eq!((span.days().count(), span.month_before().to_string()), (31, "2025-12-01T00:00:00Z".into()));
        assert_eq!((span.words().as_str(), date(day(span.end.previous())).as_str()), ("January 2026", "2026-01-31"));
    }
}
