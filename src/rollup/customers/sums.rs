//! Where customers' units are, dimension by dimension, for the books.

use super::super::State;
use super::super::state::DimensionState;
use super::Customers;
use super::seal::usage_on;
use crate::decimal::Amount;
use crate::entry::DimensionId;
use crate::hour::Hour;

/// One dimension's units of all customers, in usage units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// In hours that are not sealed.
    pub open: Amount,
    /// On the way into the next record.
    pub carry: Amount,
    /// Below one billed unit.
    pub remainder: Amount,
    /// In records that were never sent.
    pub fresh: Amount,
    /// In records of customers whom the register does not know.
    pub unknown: Amount,
}

impl State {
    /// By dimension number. `only`: of what is open, this hour alone.
    pub fn customer_sums(&self, only: Option<Hour>) -> Vec<Sums> {
        let mut sums = vec![Sums::default(); self.dimensions.len()];
        let Some(customers) = self.customers() else { return sums };
        let mut add = |dimension: usize, add: &dyn Fn(&mut Sums)| sums.get_mut(dimension).into_iter().for_each(add);
        for ((_, id), left) in &customers.left {
            let carry: Amount = left.carry.iter().map(|carry| carry.value).sum();
            let remainder: Amount = left.kept.remainder.iter().map(|(_, amount)| *amount).sum();
            add(usize::from(id.0), &|sums| {
                sums.carry += carry;
                sums.remainder += remainder;
            });
        }
        for (key, fresh) in &customers.fresh {
            add(usize::from(key.dimension.0), &|sums| sums.fresh += fresh.value());
        }
        for (key, waiting) in self.register().into_iter().flat_map(|register| register.waiting()) {
            add(usize::from(key.dimension.0), &|sums| sums.unknown += waiting.value());
        }
        for (dimension, amount) in self.open_of_customers(customers, only).into_iter().enumerate() {
            add(dimension, &|sums| sums.open = amount);
        }
        sums
    }

    fn open_of_customers(&self, customers: &Customers, only: Option<Hour>) -> Vec<Amount> {
        let mut open = vec![Amount::ZERO; self.dimensions.len()];
        let wanted = customers.open.iter().filter(|((hour, _, _), _)| only.is_none_or(|only| *hour == only));
        if !self.dimensions.iter().any(DimensionState::has_sources) {
            for ((_, _, id), one) in wanted {
                open.get_mut(usize::from(id.0)).into_iter().for_each(|sum| *sum += one.usage());
            }
            return open;
        }
        let Some(mut desk) = self.desk() else { return open };
        let mut last = None;
        for ((hour, account, _), _) in wanted {
            if last.replace((*hour, *account)) == Some((*hour, *account)) {
                continue;
            }
            self.lay(&mut desk, *account, *hour);
            let billed: Vec<bool> =
                (0..).map(DimensionId).zip(&self.dimensions).map(|(id, _)| !self.is_source(id, *hour)).collect();
            for ((sum, amount), _) in
                open.iter_mut().zip(usage_on(&desk, *hour)).zip(billed).filter(|(_, billed)| *billed)
            {
                *sum += amount;
            }
        }
        open
    }
}
