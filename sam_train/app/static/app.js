"use strict";
// The page of sam-app. What a person has clicked is here alone, and the server answers clicks without remembering who
// made them; what is accepted goes to the server at once.

const $ = (id) => document.getElementById(id);
const COLORS = ["#ff6b4a", "#4aa8ff", "#ffd54a", "#b57bff", "#4ae0c8", "#ff7bc0", "#a4e04a", "#ffa04a", "#7b8bff", "#e0e0e0"];
const MODELS = ["untuned", "tuned"];
const DRAG = 5; // pixels of the screen, from which a click is a box

let state = null; // of the server: images, tuning, categories
let image = null; // {index, bitmap, width, height}
let work = null; // of the image shown: {now, past, future, revision, saved, changed}
let view = { scale: 1, x: 0, y: 0, isWhole: true }; // pixels of the image to those of the canvas
let tool = "click";
let category = "";
let gesture = null; // what the pointer is doing
let isHidden = false;
let isSpaceDown = false;
let nextId = 1;
let loading = 0; // counts images asked for; only the last one is shown
const works = new Map(); // of every image that was opened here
const answers = new Map(); // masks by image, steps and tuned model
const asked = new Map(); // of those on their way
let layers = new WeakMap(); // drawn masks of the image shown by object, which never change

// ---------------------------------------------------------------- the server

let pending = 0;

async function call(method, path, body) {
  setBusy(1);
  try {
    const options = { method, headers: body ? { "Content-Type": "application/json" } : {} };
    if (body) options.body = JSON.stringify(body);
    const response = await fetch(path, options).catch(() => {
      throw new Error("sam-app does not answer. What was accepted is safe; start it again and open its new address");
    });
    if (!response.ok) {
      const text = await response.text();
      let detail = text;
      try { detail = JSON.parse(text).detail; } catch { /* not JSON */ }
      const error = new Error(typeof detail === "string" ? detail : JSON.stringify(detail));
      error.status = response.status;
      throw error;
    }
    const isJson = response.headers.get("Content-Type").includes("json");
    return await (isJson ? response.json() : response.blob()); // not idle before the body is here
  } finally {
    setBusy(-1);
  }
}

function setBusy(change) {
  pending += change;
  document.body.dataset.busy = String(pending > 0);
}

function note(text, key = text) {
  if ([...$("notes").children].some((item) => item.dataset.key === key)) return;
  const item = document.createElement("li");
  item.dataset.key = key;
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.textContent = "×";
  close.title = "close";
  close.onclick = () => { item.remove(); fit(); };
  item.append(words, close);
  $("notes").append(item);
  fit();
}

async function refresh() {
  state = await call("GET", "api/state");
  state.notes.forEach((text) => note(text));
  showAround();
}

// ---------------------------------------------------------------- images

/** Run something to its end as one action, so that the page does not look idle between two requests. */
async function busy(action) {
  setBusy(1);
  try { return await action(); } finally { setBusy(-1); }
}

const open = (index, direction = 1) => busy(() => load(index, direction, state.images.length));

async function load(index, direction, tries) {
  const mine = ++loading;
  if (tries <= 0) return note("no image can be read");
  try {
    const [blob, known] = await Promise.all([
      call("GET", `api/images/${index}/pixels`),
      call("GET", `api/images/${index}/objects`),
    ]);
    const bitmap = await createImageBitmap(blob);
    if (mine !== loading) return;
    const kept = works.get(index);
    if (!kept || (!kept.changed && kept.revision !== known.revision)) works.set(index, newWork(known)); // someone else's
    if (image?.index !== index) forgetMasks();
    image = { index, bitmap, width: bitmap.width, height: bitmap.height };
    document.body.dataset.image = index;
    work = works.get(index);
    showWhole();
    show();
    askAll();
    prepare(index, mine);
  } catch (error) {
    if (mine !== loading) return;
    if (error.status !== 422) return note(error.message);
    state.images[index].problem = error.message;
    note(`skipped ${state.images[index].name}: ${error.message}`);
    await load(wrapped(index + direction), direction, tries - 1);
  }
}

/** Of images that are left, only what was clicked is kept; the server answers that again. */
function forgetMasks() {
  layers = new WeakMap();
  answers.clear();
}

async function prepare(index, mine) {
  for (const one of [index, wrapped(index + 1)]) { // and the next, while the person looks at this one
    if (mine !== loading || state.images[one].problem) return;
    await call("POST", `api/images/${one}/prepare`).catch(() => {}); // opening the image will tell
  }
}

const wrapped = (index) => (index + state.images.length) % state.images.length;

function newWork(known) {
  const objects = known.objects.map((one) => ({ ...blank(one.category), known: one }));
  const now = { objects, current: null };
  return { now, past: [], future: [], revision: known.revision, saved: known.saved, changed: false };
}

function step(direction) {
  if (image) open(wrapped(image.index + direction), direction);
}

function nextUnsaved() {
  const after = state.images.map((_, offset) => wrapped(image.index + 1 + offset));
  const index = after.find((one) => !state.images[one].saved && !state.images[one].problem);
  if (index !== undefined) return open(index);
  note("every image is accepted");
  show();
}

// ---------------------------------------------------------------- objects: values that are replaced, never changed

function blank(name) {
  return { id: nextId++, category: name, steps: [], strokes: [], known: null, use: preferred() };
}

const preferred = () => (state.hasTuned && !state.tuning.isNoBetter ? "tuned" : "untuned"); // of the one that answers

const current = () => work.now.objects.find((one) => one.id === work.now.current) ?? null;

function change(objects, chosen = work.now.current) {
  work.past.push(work.now);
  work.future = [];
  work.now = { objects, current: chosen };
  work.changed = true;
  askAll();
  show();
}

function changeCurrent(make) {
  const old = current() ?? { ...blank(category), isNew: true };
  const made = { ...make(old), isNew: undefined };
  const { objects } = work.now;
  change(old.isNew ? [...objects, made] : objects.map((one) => (one === old ? made : one)), made.id);
}

function travel(from, to) {
  if (!from.length) return;
  to.push(work.now);
  work.now = from.pop();
  work.changed = true;
  askAll();
  show();
}

const undo = () => travel(work.past, work.future);
const redo = () => travel(work.future, work.past);

function choose(id) {
  work.now = { ...work.now, current: id };
  show();
}

function removeObject(id) {
  change(work.now.objects.filter((one) => one.id !== id), work.now.current === id ? null : work.now.current);
}

function addClick(point, label) {
  changeCurrent((old) => ({ ...old, steps: [...old.steps, { point, label }] }));
}

function addBox(box) {
  const isOutside = ({ point, label }) => label === 1 && point.some((at, axis) => at < box[axis] || at > box[axis + 2]);
  const isAnother = ({ steps }) => steps.some((one) => one.box || isOutside(one));
  if (current() && isAnother(current())) work.now = { ...work.now, current: null };
  changeCurrent((old) => ({ ...old, steps: [...old.steps, { box }] }));
}

function addStroke(stroke) {
  if (stroke.erase && !current()) return note("choose the object to erase from");
  changeCurrent((old) => ({ ...old, strokes: [...old.strokes, stroke] }));
}

function setCategory(name) {
  category = name;
  if (current() && current().category !== name) changeCurrent((old) => ({ ...old, category: name }));
  else show();
}

// ---------------------------------------------------------------- masks

const keyOf = (object) => `${image.index} ${state.tuned} ${state.hasTuned} ${JSON.stringify(object.steps)}`;

const askAll = () => Promise.all(work.now.objects.map(ask));

/** Asks for an object's masks, once; returns when they are there. */
function ask(object) {
  const key = keyOf(object);
  if (!object.steps.length || answers.has(key)) return null;
  if (!asked.has(key)) asked.set(key, request(object, key).finally(() => asked.delete(key)));
  return asked.get(key);
}

async function request(object, key) {
  const [of, mine] = [work, loading];
  try {
    answers.set(key, await call("POST", `api/images/${image.index}/masks`, { steps: object.steps }));
  } catch (error) {
    note(error.message);
    if (error.status === 422 && of === work && of.now.objects.includes(object) && of.past.length) undo();
  }
  if (mine === loading) show();
}

const answerOf = (object, model) => answers.get(keyOf(object))?.find((one) => one.model === model) ?? null;

/** The mask of an object as one model finds it, with what was painted on it: a layer to draw, or null while unknown. */
function layerOf(object, model) {
  const answer = object.steps.length ? answerOf(object, model) : null;
  if (object.steps.length && !answer) return null;
  const kept = layers.get(object) ?? {};
  const key = object.steps.length ? `${model} ${answer.number}` : "";
  if (kept[key]) return kept[key];
  const { width, height } = image;
  const mask = new Uint8Array(width * height); // column after column
  fillRuns(mask, answer?.lengths ?? object.known?.lengths ?? []);
  for (const stroke of object.strokes) paint(mask, stroke);
  kept[key] = drawn(mask, COLORS[object.id % COLORS.length]);
  layers.set(object, kept);
  return kept[key];
}

function fillRuns(mask, lengths) {
  let place = 0;
  lengths.forEach((length, number) => {
    if (number % 2) mask.fill(1, place, place + length);
    place += length;
  });
}

function runsOf(mask) {
  const lengths = [];
  let [value, start] = [0, 0];
  for (let place = 0; place < mask.length; place++) {
    if (mask[place] !== value) {
      lengths.push(place - start);
      [value, start] = [mask[place], place];
    }
  }
  lengths.push(mask.length - start);
  return lengths;
}

function paint(mask, stroke) {
  const { width, height } = image;
  const radius = stroke.size / 2;
  const disc = ([cx, cy]) => {
    for (let x = Math.max(Math.ceil(cx - radius - 0.5), 0); x <= Math.min(cx + radius - 0.5, width - 1); x++) {
      const half = Math.sqrt(Math.max(radius ** 2 - (x + 0.5 - cx) ** 2, 0));
      const [top, end] = [Math.max(Math.ceil(cy - half - 0.5), 0), Math.min(Math.floor(cy + half - 0.5), height - 1) + 1];
      if (end > top) mask.fill(stroke.erase ? 0 : 1, x * height + top, x * height + end);
    }
    const [x, y] = [Math.floor(cx), Math.floor(cy)]; // the smallest brush still paints a pixel
    if (x >= 0 && y >= 0 && x < width && y < height) mask[x * height + y] = stroke.erase ? 0 : 1;
  };
  stroke.points.forEach((point, number) => {
    const before = stroke.points[number - 1] ?? point;
    const count = Math.max(Math.ceil(Math.hypot(point[0] - before[0], point[1] - before[1]) / Math.max(radius / 2, 0.5)), 1);
    for (let part = 1; part <= count; part++) {
      disc(before.map((value, axis) => value + ((point[axis] - value) * part) / count));
    }
  });
}

/** A mask's colored picture, of the box around it alone. */
function drawn(mask, color) {
  const { width, height } = image;
  let [left, right, top, bottom, pixels] = [width, -1, height, -1, 0];
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      if (mask[x * height + y]) {
        pixels++;
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < top) top = y;
        if (y > bottom) bottom = y;
      }
    }
  }
  const found = { pixels, lengths: runsOf(mask), x: left, y: top, fill: null, edge: null };
  if (!pixels) return found;
  const [w, h] = [right - left + 1, bottom - top + 1];
  const rgb = [1, 3, 5].map((place) => parseInt(color.slice(place, place + 2), 16));
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[x * height + y];
  const pictures = [110, 255].map((alpha, isEdge) => {
    const canvas = new OffscreenCanvas(w, h);
    const context = canvas.getContext("2d");
    const data = context.createImageData(w, h);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const [X, Y] = [x + left, y + top];
        const isInner = at(X - 1, Y) && at(X + 1, Y) && at(X, Y - 1) && at(X, Y + 1);
        if (at(X, Y) && !(isEdge && isInner)) data.data.set([...rgb, alpha], 4 * (y * w + x));
      }
    }
    context.putImageData(data, 0, 0);
    return canvas;
  });
  [found.fill, found.edge] = pictures;
  return found;
}

// ---------------------------------------------------------------- drawing

const canvasOf = (model) => $(model).querySelector("canvas");

/** Gives canvases their size on the screen; a whole image stays whole. */
function fit() {
  for (const model of MODELS) {
    const canvas = canvasOf(model);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * devicePixelRatio));
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  }
  if (image && view.isWhole) showWhole();
  draw();
}

function showWhole() {
  const canvas = canvasOf("untuned");
  const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
  const [x, y] = [(canvas.width - image.width * scale) / 2, (canvas.height - image.height * scale) / 2];
  view = { scale, x, y, isWhole: true };
}

function draw() {
  if (!image) return;
  for (const model of MODELS) if (!$(model).hidden) drawPanel(model);
}

function drawPanel(model) {
  const canvas = canvasOf(model);
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(view.scale, 0, 0, view.scale, view.x, view.y);
  context.imageSmoothingEnabled = view.scale < 2;
  context.drawImage(image.bitmap, 0, 0);
  if (!isHidden) {
    for (const object of work.now.objects) {
      const layer = layerOf(object, model);
      if (!layer?.fill) continue;
      context.drawImage(layer.fill, layer.x, layer.y);
      if (object.id === work.now.current) context.drawImage(layer.edge, layer.x, layer.y);
    }
  }
  if (current()) drawSteps(context, current().steps);
  if (gesture?.box) drawBox(context, gesture.box);
  if (gesture?.stroke) drawStroke(context, gesture.stroke);
}

function drawSteps(context, steps) {
  const box = steps.findLast((one) => one.box)?.box;
  if (box) drawBox(context, box);
  for (const { point, label } of steps) {
    if (!point) continue;
    context.beginPath();
    context.arc(...point, (6 * devicePixelRatio) / view.scale, 0, 2 * Math.PI);
    context.fillStyle = label ? "#22c55e" : "#ef4444";
    context.strokeStyle = "#fff";
    context.lineWidth = (2 * devicePixelRatio) / view.scale;
    context.fill();
    context.stroke();
  }
}

function drawBox(context, [x0, y0, x1, y1]) {
  context.strokeStyle = "#22c55e";
  context.lineWidth = (2 * devicePixelRatio) / view.scale;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
}

function drawStroke(context, stroke) {
  context.beginPath();
  context.lineWidth = Math.max(stroke.size, 1);
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = stroke.erase ? "rgba(239, 68, 68, 0.5)" : "rgba(34, 197, 94, 0.5)";
  context.moveTo(...stroke.points[0]);
  for (const point of stroke.points) context.lineTo(...point);
  context.lineTo(stroke.points.at(-1)[0] + 0.01, stroke.points.at(-1)[1]);
  context.stroke();
}

// ---------------------------------------------------------------- what is around the image

function show() {
  if (!image) return;
  showAround();
  showObjects();
  for (const model of MODELS) {
    const object = current();
    const answer = object && answerOf(object, model);
    const isUsed = Boolean(state.hasTuned && object?.steps.length && object.use === model);
    $(model).querySelector(".estimate").textContent = answer ? `${Math.round(100 * Math.min(answer.iou, 1))} % sure` : "";
    const use = $(model).querySelector(".use");
    use.hidden = !state.hasTuned || !object?.steps.length;
    use.textContent = isUsed ? "this mask is used" : "use this mask";
    use.setAttribute("aria-pressed", isUsed);
    $(model).classList.toggle("taken", isUsed);
  }
  fit();
}

function showAround() {
  const saved = state.images.filter((one) => one.saved).length;
  $("count").textContent = `${saved} of ${state.images.length} accepted`;
  const options = state.images.map(({ name, saved, problem }) => `${saved ? "✓ " : problem ? "✗ " : ""}${name}`);
  if (options.join("\n") !== $("jump").dataset.shown) {
    $("jump").replaceChildren(...options.map((text, index) => new Option(text, index)));
    $("jump").dataset.shown = options.join("\n");
  }
  if (image) $("jump").value = image.index;
  $("tuned").hidden = !state.hasTuned;
  $("undo").disabled = !work?.past.length;
  $("redo").disabled = !work?.future.length;
  $("accept").disabled = !image;
  $("output").textContent = `Accepted images are in ${state.output}`;
  const names = [...new Set([...state.categories, ...(work?.now.objects ?? []).map((one) => one.category)])];
  state.names = names.filter(Boolean);
  $("categories").replaceChildren(...state.names.map((name) => new Option(name)));
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
  showTuning();
}

function showObjects() {
  const { objects, current: chosen } = work.now;
  $("objects").replaceChildren(...objects.map((object) => {
    const item = document.createElement("li");
    const layer = layerOf(object, object.use);
    item.dataset.pixels = layer ? layer.pixels : "";
    item.setAttribute("aria-current", object.id === chosen);
    item.onclick = () => choose(object.id === chosen ? null : object.id);
    const [color, name, count, remove] = ["i", "span", "small", "button"].map((tag) => document.createElement(tag));
    color.style.background = COLORS[object.id % COLORS.length];
    name.textContent = object.category || "object";
    count.textContent = object.steps.length ? `${object.steps.length} ${object.steps.length === 1 ? "click" : "clicks"}` : "";
    remove.textContent = "×";
    remove.title = "remove (Delete)";
    remove.onclick = (event) => { event.stopPropagation(); removeObject(object.id); };
    item.append(color, name, count, remove);
    return item;
  }));
  const shown = current() ? current().category : category;
  if (document.activeElement !== $("category")) $("category").value = shown;
}

// ---------------------------------------------------------------- accepting

let isAccepting = false;

async function accept() {
  if (!image || isAccepting) return;
  isAccepting = true;
  try { await busy(acceptShown); } finally { isAccepting = false; }
}

async function acceptShown() {
  $("category").blur();
  const accepted = image.index;
  const mine = work;
  await askAll();
  if (mine !== work) return note(`${state.images[accepted].name}: not accepted, since another image was opened meanwhile`);
  const [objects, shown] = [[], mine.now.objects];
  for (const object of shown) {
    const layer = layerOf(object, object.use);
    if (!layer) return; // what went wrong was told
    if (!layer.pixels) continue;
    const before = object.steps.length ? 0 : object.known?.clicks ?? 0;
    const answer = object.steps.length ? answerOf(object, object.use) : null;
    const clicks = before + object.steps.length + object.strokes.length;
    const name = object.category || "object";
    objects.push({ lengths: layer.lengths, category: name, clicks, model: answer?.number ?? object.known?.model ?? 0 });
  }
  if (!objects.length && !mine.saved) return note("no object yet: click on one. → leaves this image out");
  try {
    const done = await call("PUT", `api/images/${accepted}/objects`, { objects, revision: mine.revision });
    Object.assign(mine, { ...done, changed: mine.now.objects !== shown }); // while this was on its way
    await refresh();
    if (mine === work && !mine.changed) await nextUnsaved();
  } catch (error) {
    note(error.message);
    if (error.status === 409) mine.revision = (await call("GET", `api/images/${accepted}/objects`)).revision;
  }
}

// ---------------------------------------------------------------- tuning

async function tune() {
  try { state.tuning = await call("POST", "api/tuning"); } catch (error) { note(error.message); }
  showTuning();
}

async function follow() {
  try {
    const was = state.tuned;
    const now = await (await fetch("api/tuning")).json();
    const isNew = now.state !== state.tuning.state || now.tuned !== was;
    state.tuning = now;
    showTuning();
    if (isNew) {
      await refresh();
      if (work) askAll();
      show();
    }
  } catch { /* the next click tells that the server is gone */ }
  setTimeout(follow, state.tuning.state === "running" ? 700 : 3000);
}

function showTuning() {
  const { tuning, accepted, fewest } = state;
  const isRunning = tuning.state === "running";
  $("tune").disabled = isRunning || accepted < fewest;
  $("stop").hidden = !isRunning;
  const step = tuning.loss.at(-1)?.[0] ?? 0;
  $("progress").hidden = !isRunning;
  $("progress").max = tuning.steps || 1;
  if (step) $("progress").value = step; else $("progress").removeAttribute("value");
  $("tuning-text").textContent = tuningText(step);
  $("curve").hidden = !tuning.loss.length;
  if (tuning.loss.length) drawCurve(tuning);
  $("clicks").hidden = !state.clicks.length;
  $("clicks").tBodies[0].replaceChildren(...state.clicks.map(({ model, objects, clicks }) => {
    const row = document.createElement("tr");
    const name = model === 0 ? "before tuning" : `after tuning ${model}`;
    for (const text of [name, objects, (clicks / objects).toFixed(1)]) row.insertCell().textContent = text;
    return row;
  }));
}

function tuningText(step) {
  const { tuning, accepted, fewest } = state;
  if (tuning.state === "failed") return `Tuning failed: ${tuning.message}`;
  const values = tuning.gain?.map((value) => value.toFixed(3)).join(" → ");
  const gain = values ? ` IoU on accepted images that did not train: ${values}.` : "";
  const advice = tuning.isNoBetter
    ? " That is no better, so that the untuned mask is used unless you choose (T): accept more images and tune again." : "";
  if (tuning.state === "running") return `${step ? `Step ${step} of ${tuning.steps}` : "Reading images"}, ${tuning.images} images.${gain}`;
  if (tuning.state === "done") return `Tuned on ${tuning.images} images.${gain}${advice}`;
  if (accepted < fewest) return `Accept ${fewest} images or more, then the model can learn from them.`;
  return `${accepted} accepted images to learn from.`;
}

function drawCurve({ loss, iou, steps }) {
  const canvas = $("curve");
  const context = canvas.getContext("2d");
  const [width, height, left, foot] = [canvas.width, canvas.height, 44, 26];
  context.clearRect(0, 0, width, height);
  context.font = "20px system-ui, sans-serif";
  const most = Math.max(...loss.map(([, value]) => value), 1e-6);
  const place = (step, share) => [left + ((width - left - 10) * step) / Math.max(steps, 1), 10 + (height - foot - 14) * (1 - share)];
  const line = (points, color, thickness) => {
    context.strokeStyle = color;
    context.lineWidth = thickness;
    context.beginPath();
    points.forEach((point, number) => (number ? context.lineTo(...point) : context.moveTo(...point)));
    context.stroke();
  };
  line([place(0, 1), place(0, 0), place(steps, 0)], "#5a6672", 2);
  context.fillStyle = "#9aa6b2";
  context.fillText("1", 26, 22);
  context.fillText("0", 26, height - foot);
  context.fillText("loss", left + 8, height - 4);
  context.fillStyle = "#4ae0c8";
  context.fillText("IoU of images that do not train", left + 70, height - 4);
  line(loss.map(([step, value]) => place(step, value / most)), "#9aa6b2", 2);
  line(iou.map(([step, value]) => place(step, value)), "#4ae0c8", 4);
}

// ---------------------------------------------------------------- hands

function pointOf(event) {
  const box = event.target.getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left) * devicePixelRatio, (event.clientY - box.top) * devicePixelRatio];
  return [(x - view.x) / view.scale, (y - view.y) / view.scale];
}

const inside = ([x, y]) => x >= 0 && y >= 0 && x < image.width && y < image.height;
const clamped = ([x, y]) => [Math.min(Math.max(x, 0), image.width), Math.min(Math.max(y, 0), image.height)];
const rounded = (values) => values.map((value) => Math.round(value * 10) / 10);

function down(event) {
  if (!image) return;
  event.target.setPointerCapture(event.pointerId);
  event.preventDefault();
  event.target.focus();
  const point = pointOf(event);
  const start = { point, x: event.clientX, y: event.clientY };
  if (event.button === 1 || isSpaceDown) gesture = { ...start, pan: { ...view } };
  else if (event.button === 2) gesture = { ...start, label: 0 };
  else if (tool === "click") gesture = { ...start, label: event.shiftKey ? 0 : 1 };
  else gesture = { ...start, stroke: { erase: tool === "eraser", size: Number($("size").value), points: [rounded(point)] } };
  draw();
}

function move(event) {
  if (!gesture) return;
  const [dx, dy] = [event.clientX - gesture.x, event.clientY - gesture.y];
  const point = pointOf(event);
  if (gesture.pan) {
    view = { scale: view.scale, x: gesture.pan.x + dx * devicePixelRatio, y: gesture.pan.y + dy * devicePixelRatio };
  } else if (gesture.stroke) {
    gesture.stroke.points.push(rounded(point));
  } else if (gesture.label === 1 && (gesture.box || Math.hypot(dx, dy) > DRAG)) {
    const [one, other] = [clamped(gesture.point), clamped(point)];
    gesture.box = [0, 1].map((axis) => Math.min(one[axis], other[axis])).concat([0, 1].map((axis) => Math.max(one[axis], other[axis])));
  }
  draw();
}

function up() {
  const done = gesture;
  gesture = null;
  if (!done || done.pan) return draw();
  if (done.stroke) return addStroke(done.stroke);
  if (done.box) {
    const box = rounded(done.box);
    return box[2] - box[0] >= 1 && box[3] - box[1] >= 1 ? addBox(box) : draw();
  }
  return inside(done.point) ? addClick(rounded(clamped(done.point)), done.label) : draw();
}

function zoom(event) {
  if (!image) return;
  event.preventDefault();
  const [x, y] = pointOf(event);
  const scale = Math.min(Math.max(view.scale * 1.0015 ** -event.deltaY, 0.02), 64);
  view = { scale, x: view.x + x * (view.scale - scale), y: view.y + y * (view.scale - scale) };
  draw();
}

function setTool(name) {
  tool = name;
  show();
}

function setSize(value) {
  $("size").value = value;
  $("size-value").textContent = $("size").value;
}

function takeOther() {
  if (state.hasTuned && current()?.steps.length) changeCurrent((old) => ({ ...old, use: old.use === "tuned" ? "untuned" : "tuned" }));
}

function chooseNext(offset) {
  const { objects, current: chosen } = work.now;
  if (!objects.length) return;
  const place = objects.findIndex((one) => one.id === chosen);
  choose(objects[(place + offset + objects.length) % objects.length].id);
}

const KEYS = {
  n: () => choose(null),
  z: undo,
  y: redo,
  Enter: accept,
  a: accept,
  ArrowRight: () => step(1),
  ArrowLeft: () => step(-1),
  t: takeOther,
  c: () => setTool("click"),
  b: () => setTool("brush"),
  e: () => setTool("eraser"),
  "[": () => setSize(Number($("size").value) - 1),
  "]": () => setSize(Number($("size").value) + 1),
  Delete: () => current() && removeObject(work.now.current),
  Backspace: () => current() && removeObject(work.now.current),
  j: () => chooseNext(1),
  k: () => chooseNext(-1),
  h: () => { isHidden = !isHidden; draw(); },
  0: () => { showWhole(); draw(); },
};

function key(event) {
  const isTyping = event.target.matches("input:not([type=range]), select");
  if (isTyping) {
    if (event.key === "Enter" || event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === " ") isSpaceDown = true;
  if (!image || event.altKey) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (name === "z" || name === "y") {
      event.preventDefault();
      (name === "y" || event.shiftKey ? redo : undo)();
    }
    return;
  }
  if (name === "Enter" && event.target.matches("button")) return; // which it presses
  if (/^[1-9]$/.test(name) && state.names[name - 1]) setCategory(state.names[name - 1]);
  else if (KEYS[name]) KEYS[name]();
  else if (name !== " ") return;
  event.preventDefault();
}

function listen() {
  for (const model of MODELS) {
    const canvas = canvasOf(model);
    canvas.addEventListener("pointerdown", down);
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", () => { gesture = null; draw(); });
    canvas.addEventListener("wheel", zoom, { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    $(model).querySelector(".use").onclick = () => current().use !== model && takeOther();
  }
  document.addEventListener("keydown", key);
  document.addEventListener("keyup", (event) => { if (event.key === " ") isSpaceDown = false; });
  for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => setTool(button.dataset.tool);
  $("size").oninput = () => setSize($("size").value);
  $("previous").onclick = () => step(-1);
  $("next").onclick = () => step(1);
  $("jump").onchange = () => { open(Number($("jump").value)); $("jump").blur(); };
  $("undo").onclick = undo;
  $("redo").onclick = redo;
  $("accept").onclick = accept;
  $("new").onclick = () => choose(null);
  $("category").onchange = () => setCategory($("category").value.trim());
  $("tune").onclick = tune;
  $("stop").onclick = () => call("DELETE", "api/tuning");
  new ResizeObserver(() => { fit(); }).observe($("panels"));
  addEventListener("beforeunload", (event) => { if ([...works.values()].some((one) => one.changed)) event.preventDefault(); });
}

async function begin() {
  listen();
  try {
    await refresh();
  } catch (error) {
    return note(error.message);
  }
  category = state.categories[0] ?? "";
  follow();
  const first = state.images.findIndex((one) => !one.saved);
  await open(Math.max(first, 0));
}

begin();
