"""The jobs of one database: the parts that read and write them."""

from ..db.connection import Database
from ..db.group_commit import GroupCommit
from .adoption import Adoption
from .bulk import Bulk
from .claims import Claims
from .crashes import Crashes
from .dispatch import Dispatch, LocalDispatch
from .history import History
from .outbox import NoOutbox, Outbox
from .pauses import Pauses
from .reading import Reading
from .retention import Retention
from .run_log import RunLog
from .submission import Submission
from .transitions import Transitions
from .units import JobUnits
from .workers import Workers


class JobStore:
    """The parts of the store. Each owns its statements. `dispatch` and `outbox` add theirs to the same transactions."""

    def __init__(
        self,
        database: Database,
        commits: GroupCommit,
        outbox: Outbox | None = None,
        dispatch: Dispatch | None = None,
    ) -> None:
        self.database = database
        self.commits = commits
        units = JobUnits(commits, outbox or NoOutbox(), dispatch or LocalDispatch())
        self.log = RunLog()
        self.reading = Reading(database)
        self.submission = Submission(units)
        self.claims = Claims(units)
        self.transitions = Transitions(units, self.reading)
        self.crashes = Crashes(units, self.reading, self.log)
        self.adoption = Adoption(database, units)
        self.bulk = Bulk(database, units, self.submission, self.transitions)
        self.pauses = Pauses(database, units)
        self.history = History(database)
        self.workers = Workers(database, commits)
        self.retention = Retention(commits)
