//! Choosing layouts.
//!
//! Operators that leave no choice come first. Then each wire of the graph, the widest first, hands the layout of its
//! settled end to its open end, and through all open nodes that wider wires joined to that. So bytes are moved on the
//! narrowest wires between operators that want different layouts. Last, each site that has a choice takes the layout of
//! a neighbour where fewer bytes move then: one wide wire in place of many narrow ones, say.

use qcc_ir::ops::Op;
use qcc_ir::target::Target;
use qcc_ir::{Graph, Layout, NodeId, Shape, ValueId};
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};

use super::{ImageOrder, Interface, View, variable};

/// The state of each node, and the layout of each graph output.
pub(super) struct Plan {
    pub(super) states: FxHashMap<NodeId, Layout>,
    pub(super) outputs: Vec<Layout>,
}

/// Where a layout is chosen: a node, or the border at a graph output.
#[derive(Clone, Copy)]
enum Site {
    Node(NodeId),
    Output(usize),
}

/// From a value to the operand of a site that reads it.
#[derive(Clone, Copy)]
struct Wire {
    from: usize,
    port: u8,
    to: usize,
    operand: usize,
}

struct Solver<'g> {
    g: &'g Graph,
    target: &'g Target,
    interface: Interface,
    sites: Vec<Site>,
    states: Vec<Option<Layout>>,
    /// Wires between sites that were both open when the wire's turn came.
    joined: Vec<Vec<Wire>>,
    /// Wires into each site, and out of it.
    read: Vec<Vec<Wire>>,
    readers: Vec<Vec<Wire>>,
    /// For each result of each site.
    wanted: Vec<SmallVec<[Wanted; 1]>>,
}

/// The orders of bytes in which a value is read, and how many readers want each.
#[derive(Clone, Debug, Default)]
struct Wanted(Vec<(SmallVec<[usize; 8]>, usize)>);

impl Wanted {
    fn add(&mut self, order: SmallVec<[usize; 8]>) {
        match self.0.iter_mut().find(|(o, _)| *o == order) {
            Some((_, count)) => *count += 1,
            None => self.0.push((order, 1)),
        }
    }

    fn remove(&mut self, order: &SmallVec<[usize; 8]>) {
        if let Some(place) = self.0.iter().position(|(o, _)| o == order) {
            self.0[place].1 -= 1;
            if self.0[place].1 == 0 {
                self.0.swap_remove(place);
            }
        }
    }

    /// The number of orders other than this one.
    fn others(&self, own: &SmallVec<[usize; 8]>) -> usize {
        self.0.iter().filter(|(o, _)| o != own).count()
    }
}

/// Chooses layouts. The operands of `loose` nodes may have any layout.
pub(super) fn solve(g: &Graph, target: &Target, interface: Interface, loose: &[NodeId]) -> Plan {
    let nodes = g.order().into_iter().filter(|&n| !matches!(g.op(n), Op::Const(_)));
    let sites: Vec<Site> = nodes.map(Site::Node).chain((0..g.outputs().len()).map(Site::Output)).collect();
    let wires = wires(g, &sites, loose);
    let none = vec![Vec::new(); sites.len()];
    let (mut read, mut readers) = (none.clone(), none.clone());
    for &wire in &wires {
        read[wire.to].push(wire);
        readers[wire.from].push(wire);
    }
    let states = vec![None; sites.len()];
    let results = |site: &Site| match site {
        Site::Node(node) => g.results(*node).len(),
        Site::Output(_) => 0,
    };
    let wanted = sites.iter().map(|site| smallvec![Wanted::default(); results(site)]).collect();
    let mut solver = Solver { g, target, interface, sites, states, joined: none, read, readers, wanted };
    for site in 0..solver.sites.len() {
        solver.states[site] = solver.fixed(site);
    }
    for wire in wires {
        match (&solver.states[wire.from], &solver.states[wire.to]) {
            (Some(_), None) => solver.flood_along(wire, wire.to),
            (None, Some(_)) => solver.flood_along(wire, wire.from),
            (None, None) => {
                solver.joined[wire.from].push(wire);
                solver.joined[wire.to].push(wire);
            }
            (Some(_), Some(_)) => {}
        }
    }
    for site in 0..solver.sites.len() {
        if solver.states[site].is_none() {
            solver.flood(site, solver.default(site));
        }
    }
    solver.improve();
    solver.plan()
}

/// What moving a value costs besides its bytes, in bytes.
const MOVE: usize = 4096;

/// Rounds of improvement: each settles what the one before made possible.
const ROUNDS: usize = 4;

/// All wires between sites, the widest first.
fn wires(g: &Graph, sites: &[Site], loose: &[NodeId]) -> Vec<Wire> {
    let places = |(i, site): (usize, &Site)| match site {
        Site::Node(node) => Some((*node, i)),
        Site::Output(_) => None,
    };
    let place: FxHashMap<NodeId, usize> = sites.iter().enumerate().filter_map(places).collect();
    let mut wires = Vec::new();
    for (to, site) in sites.iter().enumerate() {
        let read = match site {
            Site::Node(node) if loose.contains(node) => continue,
            Site::Node(node) => g.operands(*node),
            Site::Output(i) => [g.outputs()[*i].value].into_iter().collect(),
        };
        for (operand, v) in read.into_iter().enumerate().filter(|(_, v)| variable(g, *v) && g.ty(*v).rank() > 1) {
            wires.push((width(g, v), Wire { from: place[&v.node], port: v.port, to, operand }));
        }
    }
    wires.sort_by_key(|(width, _)| std::cmp::Reverse(*width));
    wires.into_iter().map(|(_, wire)| wire).collect()
}

/// Bytes of a value, for one element of each open extent.
fn width(g: &Graph, v: ValueId) -> usize {
    let ty = g.ty(v);
    let extents = ty.shape.dims().iter().map(|d| d.known().unwrap_or(1));
    extents.fold(ty.elem.size(), usize::saturating_mul)
}

impl Solver<'_> {
    fn view(&self, node: NodeId) -> View<'_> {
        View { g: self.g, target: self.target, node }
    }

    fn output_rank(&self, i: usize) -> usize {
        self.g.ty(self.g.outputs()[i].value).rank()
    }

    fn fixed(&self, site: usize) -> Option<Layout> {
        let border =
            |rank: usize, order: ImageOrder| (rank != 4 || order == ImageOrder::Nchw).then(|| Layout::row_major(rank));
        match self.sites[site] {
            Site::Output(i) => border(self.output_rank(i), self.interface.output),
            Site::Node(node) => match self.g.op(node) {
                Op::Input(_) => border(self.g.ty(node.value(0)).rank(), self.interface.input),
                _ => self.view(node).fixed(),
            },
        }
    }

    fn default(&self, site: usize) -> Layout {
        match self.sites[site] {
            Site::Output(i) => Layout::row_major(self.output_rank(i)),
            Site::Node(node) => self.view(node).default(),
        }
    }

    /// An image at the border lies as in the source model or as the target wants it, no other way.
    fn at_border(&self, layout: Layout) -> Option<Layout> {
        (layout.is_row_major() || layout == (self.target.image_layout)(layout.rank())).then_some(layout)
    }

    /// The state that one end of a wire takes from the other.
    fn handed_over(&self, wire: Wire, to: usize) -> Option<Layout> {
        if to == wire.to {
            let Site::Node(from) = self.sites[wire.from] else { return None };
            let layout = self.view(from).result(wire.port, self.states[wire.from].as_ref()?);
            match self.sites[to] {
                Site::Node(node) => self.view(node).state_by_operand(wire.operand, &layout),
                Site::Output(_) => self.at_border(layout),
            }
        } else {
            let state = self.states[wire.to].as_ref()?;
            let layout = self.wish(wire, state);
            let Site::Node(from) = self.sites[to] else { return None };
            match self.g.op(from) {
                Op::Input(_) => self.at_border(layout),
                _ => self.view(from).state_by_result(wire.port, &layout),
            }
        }
    }

    fn flood_along(&mut self, wire: Wire, to: usize) {
        if let Some(state) = self.handed_over(wire, to) {
            self.flood(to, state);
        }
    }

    /// Settles a site and every open site that is joined to it.
    fn flood(&mut self, site: usize, state: Layout) {
        self.states[site] = Some(state);
        let mut settled = vec![site];
        while let Some(site) = settled.pop() {
            for wire in std::mem::take(&mut self.joined[site]) {
                let other = if wire.from == site { wire.to } else { wire.from };
                if self.states[other].is_none()
                    && let Some(state) = self.handed_over(wire, other)
                {
                    self.states[other] = Some(state);
                    settled.push(other);
                }
            }
        }
    }

    /// Hands the layouts of neighbours to sites that have a choice, where that costs less.
    fn improve(&mut self) {
        for site in 0..self.sites.len() {
            let state = self.states[site].take();
            self.set(site, state);
        }
        for _ in 0..ROUNDS {
            let mut changed = false;
            for site in (0..self.sites.len()).filter(|&site| self.fixed(site).is_none()).collect::<Vec<_>>() {
                let offers = |wires: &[Wire]| -> Vec<Layout> {
                    let mut different = Vec::new();
                    for offer in wires.iter().filter_map(|&wire| self.handed_over(wire, site)) {
                        if !different.contains(&offer) {
                            different.push(offer);
                        }
                    }
                    different
                };
                let (from_operands, from_readers) = (offers(&self.read[site]), offers(&self.readers[site]));
                let current = self.states[site].clone();
                let around = self.around(site);
                let mut least = self.cost_of(&around);
                // At the same cost bytes move late: behind a join one move does for many.
                let mut early = current.is_some_and(|state| !from_operands.contains(&state));
                let offers =
                    from_operands.into_iter().map(|o| (o, true)).chain(from_readers.into_iter().map(|o| (o, false)));
                for (offer, late) in offers {
                    let before = self.set(site, Some(offer));
                    let cost = self.cost_of(&around);
                    if cost < least || (cost == least && late && early) {
                        (least, changed, early) = (cost, true, early && !late);
                    } else {
                        self.set(site, before);
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// Gives a site another state, and what it reads other wishes. Gives the state before.
    fn set(&mut self, site: usize, state: Option<Layout>) -> Option<Layout> {
        let before = std::mem::replace(&mut self.states[site], state);
        for wire in 0..self.read[site].len() {
            let wire = self.read[site][wire];
            let Some(shape) = self.shape(wire.from, wire.port) else { continue };
            let order = |state: &Option<Layout>| Some(self.wish(wire, state.as_ref()?).wide_axes(shape));
            let (old, new) = (order(&before), order(&self.states[site]));
            let wanted = &mut self.wanted[wire.from][usize::from(wire.port)];
            if let Some(order) = old {
                wanted.remove(&order);
            }
            if let Some(order) = new {
                wanted.add(order);
            }
        }
        before
    }

    /// The layout that the reader at the end of a wire wants in that state.
    fn wish(&self, wire: Wire, state: &Layout) -> Layout {
        match self.sites[wire.to] {
            Site::Node(node) => self.view(node).operand(wire.operand, state),
            Site::Output(_) => state.clone(),
        }
    }

    fn shape(&self, site: usize, port: u8) -> Option<&Shape> {
        match self.sites[site] {
            Site::Node(node) => Some(&self.g.ty(node.value(port)).shape),
            Site::Output(_) => None,
        }
    }

    /// The values that a site reads and gives.
    fn around(&self, site: usize) -> Vec<(usize, u8)> {
        let mut values: Vec<(usize, u8)> = self.read[site].iter().map(|w| (w.from, w.port)).collect();
        values.extend(self.readers[site].iter().map(|w| (w.from, w.port)));
        values.sort_unstable();
        values.dedup();
        values
    }

    /// What moving values costs: once for each order of bytes that a reader wants and that is not the value's own.
    fn cost_of(&self, values: &[(usize, u8)]) -> usize {
        let cost = |&(from, port): &(usize, u8)| {
            let (Site::Node(node), Some(state)) = (self.sites[from], &self.states[from]) else { return 0 };
            let own = self.view(node).result(port, state).wide_axes(&self.g.ty(node.value(port)).shape);
            let moves = self.wanted[from][usize::from(port)].others(&own);
            moves * (width(self.g, node.value(port)) + MOVE)
        };
        values.iter().map(cost).sum()
    }

    fn plan(self) -> Plan {
        let mut plan = Plan { states: FxHashMap::default(), outputs: Vec::new() };
        for (site, state) in self.sites.iter().zip(&self.states) {
            let Some(state) = state.clone() else { continue };
            match site {
                Site::Node(node) => {
                    plan.states.insert(*node, state);
                }
                Site::Output(_) => plan.outputs.push(state),
            }
        }
        plan
    }
}
