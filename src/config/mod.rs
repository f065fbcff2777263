//! stub
#![allow(missing_docs)]
use crate::decimal::Amount; use serde::{Serialize,Deserialize}; use std::{path::PathBuf,time::Duration};
pub struct Config { pub product: Product, pub dimensions: Vec<Dimension>, pub socket: Socket, pub alert: Alert, pub state: State, pub submit: Submit, pub instance: Instance, pub hour: HourRules, pub gate: Gate }
pub struct Product { pub code: String, pub kind: ProductKind }
#[derive(Debug,Clone,Copy,PartialEq,Eq,Serialize,Deserialize)] pub enum ProductKind{Ami,Saas}
#[derive(Debug,Clone,PartialEq,Eq,Serialize,Deserialize)]
pub struct Dimension { pub name: String, pub measure: Measure, pub sticky: bool, pub unit: Amount, pub round: Round, pub hold_above: Option<Amount>, pub included: Option<Included>, pub price: Option<Amount>, pub allow_users: Vec<u32>, pub from: Vec<Source> }
#[derive(Debug,Clone,Copy,PartialEq,Eq,Serialize,Deserialize)] pub enum Measure{Sum,Count,Max,Last,Unique,Uptime}
#[derive(Debug,Clone,Copy,PartialEq,Eq,Serialize,Deserialize)] pub enum Round{Carry,Up,Down}
#[derive(Debug,Clone,Copy,PartialEq,Eq,Serialize,Deserialize)] pub enum Period{Hour,Month}
#[derive(Debug,Clone,PartialEq,Eq,Serialize,Deserialize)] pub struct Included{pub quantity:Amount,pub per:Period}
#[derive(Debug,Clone,PartialEq,Eq,Serialize,Deserialize)] pub struct Source{pub name:String,pub weight:Amount}
pub struct Socket { pub path: PathBuf, pub mode: u32, pub allow_users: Vec<u32>, pub allow_groups: Vec<u32>, pub allow_read_users: Vec<u32> }
pub struct Alert { pub command: Vec<String> }
pub struct State { pub dir: PathBuf, pub segment_bytes: u32, pub retain_days: u32, pub allow_volatile: bool }
pub struct Submit { pub region: Option<String>, pub endpoint_url: Option<String>, pub credentials: Credentials, pub offset: Offset, pub window: Duration, pub late: Late, pub zero_records: ZeroRecords }
impl Submit { pub fn is_loopback(&self)->bool{true} }
#[derive(Debug,Clone,Copy,PartialEq,Eq)] pub enum Credentials{Instance,Environment}
#[derive(Debug,Clone,Copy,PartialEq,Eq)] pub enum Offset{Auto,Fixed(Duration)}
#[derive(Debug,Clone,Copy,PartialEq,Eq,Default,Serialize,Deserialize)] pub enum Late{#[default] CarryForward,Expire}
#[derive(Debug,Clone,Copy,PartialEq,Eq,Default,Serialize,Deserialize)] pub enum ZeroRecords{#[default] Off,All}
pub struct Instance { pub id: Option<String> }
pub struct HourRules { pub grace: Duration }
pub struct Gate { pub warn_after: Duration, pub close_after: Option<Duration> }
