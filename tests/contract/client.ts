// A client of the types that openapi-typescript makes: submits a job, waits for it, and prints its state and result.
import createClient from "openapi-fetch";
import type { components, paths } from "./service.js";

declare const process: { argv: string[] };
type Job = components["schemas"]["Job"];

const api = createClient<paths, `application/${string}`>({ baseUrl: process.argv[2] });

async function submitted(): Promise<Job> {
  const { data, error } = await api.POST("/jobs", { body: { task: "gather", args: {}, priority: 5 } });
  if (error) throw new Error(`${error.title}: ${error.detail}`);
  return data;
}

async function ended(id: string): Promise<Job> {
  const { data, error } = await api.GET("/jobs/{job_id}", {
    params: { path: { job_id: id }, header: { Prefer: "wait=30" } },
  });
  if (error) throw new Error(error.detail);
  return data;
}

const job = await ended((await submitted()).id);
const { data: result } = await api.GET("/jobs/{job_id}/result", { params: { path: { job_id: job.id } } });
const { error } = await api.POST("/jobs", {
  // @ts-expect-error: the task has no such argument
  body: { task: "gather", args: { nonsense: 1 } },
});
console.log(JSON.stringify({ status: job.status, result, refused: error?.errors?.[0]?.pointer }));
