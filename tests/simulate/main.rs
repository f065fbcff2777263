//! The simulated Metering Service keeps AWS's rules, over real HTTP.

mod client;
mod command;
mod faults;
mod rules;
mod wire;
