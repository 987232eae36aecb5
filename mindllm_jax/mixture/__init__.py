"""The mixture of a run: which tokens are row r.

Row r is a pure function of r, the store's manifest, `Mixture` (settings.py) and the run's steps and global batch size.
No state is kept, so that a run resumes at any row and hosts share a mixture without messages.

Once for a run (`Schedule`, schedule.py):

1. Stages divide the steps of the run, and so its rows, in proportion to their shares.
2. Languages divide the rows of a stage in proportion to `weights`; the sources of a language divide its rows in
   proportion to their rows in an epoch times `source_weights` (`apportion`, proportions.py).
3. A source with a cap (`max_epochs`) gives at most that many rows to all stages together; the other sources of its
   language take over (`allocate`, proportions.py), and the run is refused where they cannot.

For row r (`Schedule.source_row`), which is row p of its stage:

4. The order of the stage (order.py) maps p to a source. `Shuffled`: languages, and the sources of a language, take
   turns so evenly that every window has the proportions. `Blocked`: blocks of sources one after the other. `InChunks`:
   chunks of consecutive rows of some sources between the rows of the others. Without stages, caps, blocks and chunks
   they take turns by weights alone, and row r does not depend on the length of the run.
5. The order also counts the source's rows before p in the stage; with its rows in earlier stages this is k, the number
   of the row in the source, which is read in order through all stages and epochs.

For row k of a source of N tokens (`MixtureRows`, rows.py):

6. An epoch is a grid of R = ceil(N / T) cells over the source's stream, which is a circle: after its last token comes
   its first. Row k is of epoch e = k // R, and there the cell g = permute(k % R) of the grid (hashing.py).
7. The grid begins at token c, so that the row has the T tokens from c + g T on and as targets the T tokens from
   c + g T + 1 on. The last cell is filled up with padding: every token is a target once in an epoch.
8. Permutation and c are hashes of (seed, source, e): in each epoch rows have another order, and documents are cut
   elsewhere.

`mixture_report` (report.py) tabulates tokens and epochs of every source before a run reads anything.
"""
