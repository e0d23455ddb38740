// The content of the page: a `Page` of report/page.py.

export const data = JSON.parse(document.getElementById("run-data").textContent);

export function modelNamed(name) {
  return data.models.find((model) => model.name === name);
}

/** The models that have scores. */
export function scored() {
  return data.models.filter((model) => Object.keys(model.figures).length);
}

/** The two models that the page compares: those of the summary, otherwise the first and the last with scores. */
export function comparedModels() {
  if (data.comparison && modelNamed(data.comparison.a) && modelNamed(data.comparison.b)) {
    return [data.comparison.a, data.comparison.b];
  }
  const pools = [
    data.models.filter((model) => model.trained && model.figures.em),
    data.models.filter((model) => model.trained),
    data.models,
  ];
  const pool = pools.find((models) => models.length);
  if (!pool) return [null, null];
  const last = pool.find((model) => model.name === data.best) || pool[pool.length - 1];
  return [pool[0].name, last.name];
}

export function iterationOf(model) {
  return data.iterations.find(({ name }) => name === model.name) || {};
}

export function questionCount(model) {
  return (model.figures.em || Object.values(model.figures)[0]).n;
}

/** Whether a model answered the question in row `index` right; null if it is not scored. */
export function isRight(model, index) {
  const score = model.scores[index];
  return score ? score.em >= 0.5 : null;
}
