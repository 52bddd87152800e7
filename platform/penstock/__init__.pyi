from penstock.api import check as check
from penstock.api import configure as configure
from penstock.api import models as models
from penstock.api import prepare as prepare
from penstock.api import promote as promote
from penstock.api import runs as runs
from penstock.api import workloads as workloads
from penstock.client import AsyncClient as AsyncClient
from penstock.client import Client as Client
from penstock.demo import run_demo as run_demo
from penstock.doctor import examine as examine
from penstock.evaluation import compare as compare
from penstock.evaluation import evaluate as evaluate
from penstock.experiment import train as train
from penstock.exporting import export as export
from penstock.jobs.submission import submit as submit
from penstock.prediction import predict as predict
from penstock.report import write_report as write_report
from penstock.serving.on_ray.switch import handle as handle
from penstock.serving.server import serve as serve
from penstock.store import Store as Store
from penstock.templates import new as new
from penstock.tuning.tune import tune as tune

__version__: str
